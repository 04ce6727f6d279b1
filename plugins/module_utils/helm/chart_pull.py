# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Download packages of charts from a repository or a registry with Helm.

Helm uses separate private files that are deleted when it ends. Command lines therefore contain no passwords, and the
user's Helm configuration and downloads of other runs have no effect.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from ..kube.client.paths import segment_fault

OCI: Final = "oci://"
HTTPS: Final = "https://"
_PRIVATE_FILE: Final = 0o600
# Name of the repository in Helm, and of its index.
_REPOSITORY: Final = "lakehouse"
# Clients look up credentials of Docker Hub by this name, for any of its hosts.
# Source: oras.land/oras-go, registry/remote/credentials/registry.go (ServerAddressFromHostname).
_DOCKER_HUB: Final = ("docker.io", "index.docker.io", "registry-1.docker.io")
_DOCKER_ACCOUNTS: Final = "https://index.docker.io/v1/"
_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,250}")
_VERSION: Final = re.compile(r"v?\d+(\.\d+){0,2}(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?")
_PARENTS: Final = (".", "..")
_NOT_UPDATED: Final = re.compile(r"Unable to get an update from the [^\n]*:\n\s*([^\n]+)")
_NOT_TRUSTED: Final = re.compile(r"x509|certificate")
_NOT_LET_IN: Final = re.compile(r"\b40[13]\b|unauthorized|basic credential not found|denied", re.IGNORECASE)

Run = Callable[[Sequence[str]], tuple[int, str, str]]
"""Runs a command line; returns its exit status, its output and its errors."""


class ChartError(Exception):
    """A chart cannot be used. The text is for users: the problem, its place and the remedy."""


@dataclass(frozen=True)
class Wanted:
    """A requested chart.

    name, version: required values of its Chart.yaml; an empty version accepts any version of a path. repository: an
    https:// or oci:// address. path: a folder or a package, as an alternative. checksum: SHA-256 of the package.
    ca_bundle: file of certificate authorities. username, password: repository credentials.
    """

    name: str
    version: str = ""
    repository: str = ""
    path: str = ""
    checksum: str = ""
    ca_bundle: str = ""
    username: str = ""
    password: str = field(default="", repr=False)


def pull(wanted: Wanted, program: str, run: Run, into: Path) -> Path:
    """Download the package with Helm into a folder below `into`, and return its path.

    Raises ChartError if the chart is incompletely described or unavailable, or differs from the package in the
    repository's index.
    """
    _check(wanted)
    package, private = into / "package", into / "helm"
    package.mkdir()
    private.mkdir(mode=0o700)
    try:
        download = _from_registry if wanted.repository.startswith(OCI) else _from_repository
        return download(wanted, program, run, package, private)
    finally:
        shutil.rmtree(private)


def is_version(text: str) -> bool:
    """Return whether a text is one version of a chart. Source: semver.org, in Helm's loose form."""
    return bool(_VERSION.fullmatch(text))


def check_identifiers(wanted: Wanted) -> None:
    """Raise ``ChartError`` for an invalid name, version or repository, because paths and addresses contain them.

    Source: helm.sh/helm, pkg/chart/v2/util/create.go (chartName).
    """
    if not _NAME.fullmatch(wanted.name) or wanted.name in _PARENTS:
        raise ChartError(
            f"cannot use the chart {wanted.name!r}: its name is not one of a chart; use letters, digits and any of ._-"
        )
    if wanted.version and not is_version(wanted.version):
        raise ChartError(
            f"cannot use the chart {wanted.name}: {wanted.version!r} is not a version; write it as in its Chart.yaml, "
            "like 1.2.3"
        )
    parts = urlsplit(wanted.repository)
    segments = parts.path.strip("/").split("/") if parts.path.strip("/") else []
    if parts.query or parts.fragment or any(map(segment_fault, segments)) or re.search(r"\s", wanted.repository):
        raise ChartError(
            f"cannot use the repository of the chart {wanted.name}: its path has an empty segment, `.`, `..`, `%`, a "
            "blank, a query or a fragment; write the address as the repository names it"
        )


def _check(wanted: Wanted) -> None:
    """Raise ``ChartError`` unless the chart and its source are described completely."""
    if not wanted.repository:
        raise ChartError(f"cannot use the chart {wanted.name}: it has no source. Set a repository or a path")
    if not wanted.version:
        raise ChartError(f"cannot use the chart {wanted.name}: it has no version. Set `version`")
    if not wanted.repository.startswith((HTTPS, OCI)):
        raise ChartError(
            f"the repository of the chart {wanted.name} is neither {HTTPS} nor {OCI}. Set an address of one of them"
        )
    if "@" in urlsplit(wanted.repository).netloc:
        raise ChartError(
            f"the address of the repository of the chart {wanted.name} holds an account: every list of processes and "
            "every log would show it; give it by the options `chart_username` and `chart_password`"
        )
    if bool(wanted.username) != bool(wanted.password):
        raise ChartError(f"the account for the chart {wanted.name} is not complete: give both username and password")


def _from_registry(wanted: Wanted, program: str, run: Run, package: Path, private: Path) -> Path:
    """Pull from a registry. Its content is addressed by a digest, which Helm verifies."""
    account: list[str] = []
    if wanted.username:
        host = urlsplit(wanted.repository).netloc
        name = _DOCKER_ACCOUNTS if host in _DOCKER_HUB else host
        secret = base64.b64encode(f"{wanted.username}:{wanted.password}".encode()).decode()
        write_private(private / "accounts.json", {"auths": {name: {"auth": secret}}})
        account = ["--registry-config", str(private / "accounts.json")]
    chart = f"{wanted.repository.rstrip('/')}/{wanted.name}"
    return _pull(wanted, run, [program, "pull", chart], account, package)


def _from_repository(wanted: Wanted, program: str, run: Run, package: Path, private: Path) -> Path:
    """Pull from a repository, and verify the package by its index, which Helm itself does not.

    Source: helm.sh/helm, pkg/downloader/chart_downloader.go (DownloadTo) verifies signatures only.
    """
    config, cache = private / "repositories.yaml", private / "cache"
    place = {"name": _REPOSITORY, "url": wanted.repository.rstrip("/"), "caFile": wanted.ca_bundle}
    account = {"username": wanted.username, "password": wanted.password, "pass_credentials_all": False}
    write_private(config, {"apiVersion": "v1", "repositories": [{**place, **account}]})
    files = ["--repository-config", str(config), "--repository-cache", str(cache)]
    status, output, errors = run([program, "repo", "update", _REPOSITORY, *files])
    # Helm 3 exits with status 0 when it cannot read an index.
    refused = _NOT_UPDATED.search(output)
    if status or refused:
        raise _unavailable(wanted, refused[1] if refused else errors or output)
    found = _pull(wanted, run, [program, "pull", f"{_REPOSITORY}/{wanted.name}"], files, package)
    _verify(wanted, found, cache / f"{_REPOSITORY}-index.yaml")
    return found


def _pull(wanted: Wanted, run: Run, command: Sequence[str], files: Sequence[str], package: Path) -> Path:
    trusted = ["--ca-file", wanted.ca_bundle] if wanted.ca_bundle else []
    status, output, errors = run(
        [*command, "--version", wanted.version, "--destination", str(package), *files, *trusted]
    )
    packages = sorted(package.glob("*.tgz"))
    if status or len(packages) != 1:
        raise _unavailable(wanted, errors or output)
    return packages[0]


def _unavailable(wanted: Wanted, said: str) -> ChartError:
    said = said.strip().removeprefix("Error: ").rstrip(".") or "nothing"
    if _NOT_TRUSTED.search(said):
        remedy = "Name the authority of its certificate in the option `ca_bundle` (inventory: lakehouse_ca_bundle)"
    elif _NOT_LET_IN.search(said):
        remedy = (
            "Set credentials with permission to pull it: `chart_username` and `chart_password` (inventory: "
            "lakehouse_chart_username, lakehouse_chart_password)"
        )
    else:
        remedy = "Where the network is closed, name a mirror as the repository, or a package or folder as the path"
    place = f"{wanted.name} {wanted.version} cannot be had from {wanted.repository.rstrip('/')}"
    return ChartError(f"the chart {place}. Helm says: {said}. {remedy}")


def _verify(wanted: Wanted, package: Path, index: Path) -> None:
    """Raise ``ChartError`` if the index has another digest for the package. Not every index has digests."""
    text = index.read_text(encoding="utf-8")
    actual = digest(package)
    # An index can have many megabytes, so it is parsed only after a mismatch.
    if actual in text:
        return
    listed = _listed(text, wanted)
    if listed and listed != actual:
        raise ChartError(
            f"{package.name} from {wanted.repository.rstrip('/')} is sha256:{actual}, and the repository's index says "
            f"sha256:{listed}: one of them was changed or is damaged; do not install it before you know why"
        )


def _listed(index: str, wanted: Wanted) -> str:
    """Return the digest of a package in an index, or an empty text."""
    import yaml

    content = yaml.load(index, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - both are safe
    entries: Sequence[Mapping[str, Any]] = content["entries"].get(wanted.name, ())
    found = [str(entry.get("digest") or "") for entry in entries if entry.get("version") == wanted.version]
    return found[0].removeprefix("sha256:").lower() if found else ""


def digest(package: Path) -> str:
    """Return the SHA-256 of a package."""
    return hashlib.sha256(package.read_bytes()).hexdigest()


def write_private(path: Path, content: Any) -> None:
    """Write JSON to a file that only its owner can read."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _PRIVATE_FILE)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(content, file)


@dataclass(frozen=True)
class Kept:
    """Packages with pinned checksums, cached in a folder of the user. Cached packages require no network."""

    folder: Path

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Kept:
        """Return the cache of a user. Source: XDG Base Directory Specification."""
        base = environment.get("XDG_CACHE_HOME", "")
        root = Path(base) if base.startswith("/") else Path("~/.cache").expanduser()
        return cls(root / "crypto-lakehouse" / "charts")

    def find(self, checksum: str) -> Path | None:
        """Return the package with a checksum, or None if it is missing or damaged."""
        path = self._path(checksum)
        try:
            return path if digest(path) == checksum else None
        except OSError:
            return None

    def keep(self, package: Path, checksum: str) -> None:
        """Cache a verified package with an atomic write. Errors are ignored, because the cache is optional."""
        path = self._path(checksum)
        partial = path.with_suffix(f".{os.getpid()}.partial")
        with contextlib.suppress(OSError):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                shutil.copyfile(package, partial)
                partial.replace(path)
            finally:
                partial.unlink(missing_ok=True)

    def _path(self, checksum: str) -> Path:
        return self.folder / f"{checksum}.tgz"
