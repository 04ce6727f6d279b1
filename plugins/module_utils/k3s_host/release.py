# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Release files of K3s: names, checksums, and the verified installation on a host."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

from ..host.digests import sha256
from ..host.errors import HostError

RELEASES = "https://github.com/k3s-io/k3s/releases/download"
# By architecture of `uname -m`: the suffix of the binary, and the name of the architecture in other files.
ARCHITECTURES: Mapping[str, tuple[str, str]] = {
    "x86_64": ("", "amd64"),
    "aarch64": ("-arm64", "arm64"),
    "armv7l": ("-armhf", "arm"),
}
IMAGE_SUFFIXES = (".tar.zst", ".tar.gz", ".tar")
BINARY_MODE, IMAGES_MODE, RECORD_MODE = 0o755, 0o644, 0o644
_SUM = re.compile(r"([0-9a-fA-F]{64})\s+\*?(\S+)", re.ASCII)
_CHUNK_BYTES = 1 << 20
# e_machine of ELF by the architecture of `uname -m`, elf.h.
_MACHINES = {"x86_64": 62, "aarch64": 183, "armv7l": 40}
_ELF, _MACHINE_OFFSET = b"\x7fELF", 18


@dataclass(frozen=True)
class Names:
    """Names of the files of a release for one architecture."""

    binary: str
    sums: str
    images: tuple[str, ...]


def names(architecture: str) -> Names:
    """Return the names for an architecture of `uname -m`. Raise `HostError` for others. Source: install.sh of K3s."""
    if architecture not in ARCHITECTURES:
        raise HostError(f"cannot install K3s: no release for {architecture}. Use {', '.join(sorted(ARCHITECTURES))}.")
    suffix, short = ARCHITECTURES[architecture]
    images = tuple(f"k3s-airgap-images-{short}{ending}" for ending in IMAGE_SUFFIXES)
    return Names(f"k3s{suffix}", f"sha256sum-{short}.txt", images)


def address(base: str, version: str, name: str) -> str:
    """Return the URL of a file of a release below the base URL of all releases."""
    return f"{base.rstrip('/')}/{quote(version, safe='')}/{name}"


def parse_sums(text: str) -> dict[str, str]:
    """Return the SHA-256 by file name of a release's checksum file, without other lines."""
    found = (_SUM.fullmatch(line.strip()) for line in text.splitlines())
    return {match[2]: match[1].lower() for match in found if match}


def needed_files(known: Names, sources: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Return the SHA-256 by name of a folder's files that a host requires: binary and archive of images.

    Raises `HostError` if the binary or a checksum is missing.
    """
    if known.binary not in sources:
        raise HostError(f"cannot install K3s: `k3s_airgap_dir` holds no {known.binary}. Put the release there.")
    images = [name for name in known.images if name in sources][:1]
    found = {name: sources[name]["sha256"] for name in (known.binary, *images)}
    for name, digest in found.items():
        if not digest:
            raise HostError(
                f"cannot verify {name}: {known.sums} does not list it. Put the checksum file of the release into "
                "`k3s_airgap_dir`, or set `k3s_checksums`."
            )
    return found


def pinned_sums(pinned: Mapping[str, str], version: str) -> dict[str, str]:
    """Return the pinned SHA-256 by file name. `VERSION/NAME` pins the file of one release and precedes `NAME`."""
    general = {name: digest for name, digest in pinned.items() if "/" not in name}
    return general | {
        name.partition("/")[2]: digest for name, digest in pinned.items() if name.startswith(f"{version}/")
    }


def expected_sum(name: str, pinned: Mapping[str, str], read_sums: Callable[[], str]) -> str:
    """Return the expected SHA-256 of a file: the pinned one, else that of the checksum file.

    Raises `HostError` if neither contains it.
    """
    if pinned.get(name):
        return pinned[name].lower()
    digest = parse_sums(read_sums()).get(name, "")
    if not digest:
        raise HostError(
            f"cannot verify {name}: the checksum file does not list it. Use the files of one release, or set "
            "`k3s_checksums`."
        )
    return digest


@dataclass(frozen=True)
class Target:
    """A file of a release on a host."""

    path: Path
    sha256: str
    mode: int

    @property
    def installed(self) -> bool:
        """Whether the file has the expected content and mode."""
        try:
            return self.path.stat().st_mode & 0o7777 == self.mode and sha256(self.path) == self.sha256
        except OSError:
            return False


def install(target: Target, source: BinaryIO, architecture: str) -> None:
    """Write a file beside its target, verify it, and then replace the target atomically.

    Raises `HostError` for a wrong checksum or architecture, with the target unchanged.
    """
    target.path.parent.mkdir(parents=True, exist_ok=True)
    draft = target.path.with_name(f".{target.path.name}.new")
    try:
        found = _write(draft, source)
        if found != target.sha256:
            raise HostError(
                f"cannot install {target.path}: its SHA-256 is {found}, not {target.sha256}. Check the source and "
                "`k3s_checksums`."
            )
        check_architecture(draft, architecture)
        draft.chmod(target.mode)
        draft.replace(target.path)
    finally:
        draft.unlink(missing_ok=True)


def _write(path: Path, source: BinaryIO) -> str:
    """Write a new file without execute permission, and return its SHA-256."""
    path.unlink(missing_ok=True)
    found = hashlib.sha256()
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        while chunk := source.read(_CHUNK_BYTES):
            found.update(chunk)
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    return found.hexdigest()


def check_architecture(path: Path, architecture: str) -> None:
    """Raise `HostError` for an ELF program of another architecture."""
    with path.open("rb") as file:
        head = file.read(_MACHINE_OFFSET + 2)
    if head[:4] != _ELF or len(head) < _MACHINE_OFFSET + 2:
        return
    (machine,) = struct.unpack_from("<H", head, _MACHINE_OFFSET)
    if machine != _MACHINES.get(architecture):
        built = next((name for name, number in _MACHINES.items() if number == machine), f"machine {machine}")
        raise HostError(f"cannot install K3s: the binary is built for {built}, and the host is {architecture}.")


@dataclass(frozen=True)
class Record:
    """The installed release, with the SHA-256 of its files by path."""

    version: str = ""
    files: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, version: str, targets: Iterable[Target]) -> Record:
        """Return the record of installed files."""
        return cls(version, tuple(sorted((str(target.path), target.sha256) for target in targets)))

    @classmethod
    def read(cls, path: Path) -> Record:
        """Return the record at a path; an empty one without it."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            found = json.loads(path.read_bytes())
            return cls(str(found["version"]), tuple(sorted((str(p), str(d)) for p, d in found["files"].items())))
        return cls()

    def write(self, path: Path) -> None:
        """Replace the record at a path atomically."""
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.new")
        draft.write_text(json.dumps({"version": self.version, "files": dict(self.files)}, indent=2), encoding="utf-8")
        draft.chmod(RECORD_MODE)
        draft.replace(path)
