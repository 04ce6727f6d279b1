# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Download Helm charts from a repository, a registry or a path, verify and unpack them.

All later steps use the unpacked folder, so that only verified content is installed.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from .chart_pull import ChartError, Kept, Run, Wanted, check_identifiers, digest, pull

OLDEST_HELM: Final = (3, 14)
HOW_TO_GET_HELM: Final = (
    "Install Helm 4 (https://helm.sh/docs/intro/install/), have `make kubernetes` put it into .cache/kube/bin, "
    "or name the program with the option `binary_path` (inventory: lakehouse_helm_binary)"
)
_VERSION = re.compile(r"v(\d+)\.(\d+)\.(\d+)")
_CHECKSUM = re.compile(r"(?:sha256:)?([0-9a-fA-F]{64})")
_MISSING_DEPENDENCIES = re.compile(r"missing in charts/ directory: ([^\n]*)")
# Maximum unpacked size of a chart; the largest in use are below 20 MiB.
_MAX_UNPACKED_BYTES: Final = 256 * 1024 * 1024


@dataclass(frozen=True)
class Chart:
    """A chart in a folder."""

    folder: Path
    name: str
    version: str
    app_version: str
    checksum: str

    def described(self) -> dict[str, str]:
        """Return the chart as a module's result."""
        return {
            "path": str(self.folder),
            "name": self.name,
            "version": self.version,
            "app_version": self.app_version,
            "checksum": self.checksum,
        }


def helm_version(run: Run, program: str) -> str:
    """Return the version of a helm program, as in '4.2.3'. Raises ``ChartError`` if it is invalid or too old."""
    try:
        status, output, errors = run([program, "version", "--template", "{{.Version}}"])
    except OSError as error:
        raise ChartError(f"{program} cannot be started: {error.strerror}. {HOW_TO_GET_HELM}") from None
    found = _VERSION.search(output)
    if status or not found:
        said = (errors or output).strip() or "nothing"
        raise ChartError(f"{program} is not Helm: its version is {said}. {HOW_TO_GET_HELM}")
    if (int(found[1]), int(found[2])) < OLDEST_HELM:
        oldest = ".".join(map(str, OLDEST_HELM))
        raise ChartError(
            f"{program} is Helm {found[0][1:]}, {oldest} is the oldest supported version. {HOW_TO_GET_HELM}"
        )
    return found[0][1:]


def fetch(wanted: Wanted, program: str, run: Run, into: Path, kept: Kept | None = None) -> Chart:
    """Return the chart, unpacked below `into` unless it is a folder.

    kept: packages of earlier runs. A package with the checksum is not downloaded again.

    Raises ChartError if the chart is unavailable, has another checksum, or is another chart or version.
    """
    check_identifiers(wanted)
    expected = _expected_checksum(wanted)
    if wanted.path:
        source = Path(wanted.path).expanduser()
        if source.is_dir():
            return _read_folder(source, wanted)
        if not source.is_file():
            raise ChartError(f"there is no chart at {source}: name a folder with a Chart.yaml, or a package (.tgz)")
    else:
        found = kept.find(expected) if kept and expected else None
        source = found or pull(wanted, program, run, into)
    checksum = digest(source)
    if expected and checksum != expected:
        raise ChartError(
            f"the checksum of {source.name} is sha256:{checksum} and not sha256:{expected}: it is another package than "
            "the one that was verified; do not install it before you know why"
        )
    chart = _read(_unpack(source, into), wanted, checksum)
    if kept and expected and not wanted.path:
        kept.keep(source, expected)
    return chart


def _read_folder(folder: Path, wanted: Wanted) -> Chart:
    if wanted.checksum:
        raise ChartError(
            f"{folder} is a folder and has no checksum: package it with `helm package {folder}`, "
            "or leave the checksum out"
        )
    return _read(folder, wanted, "")


def _expected_checksum(wanted: Wanted) -> str:
    if not wanted.checksum:
        return ""
    found = _CHECKSUM.fullmatch(wanted.checksum)
    if not found:
        raise ChartError(
            f"{wanted.checksum!r} is not a checksum. Set `sha256:` and 64 hexadecimal digits, as printed by `sha256sum`"
        )
    return found[1].lower()


def _unpack(package: Path, into: Path) -> Path:
    """Unpack a chart's package and return the folder in it."""
    folder = into / "chart"
    folder.mkdir()
    try:
        with tarfile.open(package, "r:gz") as archive:
            if sum(member.size for member in archive) > _MAX_UNPACKED_BYTES:
                raise ChartError(f"{package} unpacks to more than {_MAX_UNPACKED_BYTES >> 20} MiB and is not a chart")
            # The filter rejects paths outside of the folder, links and devices.
            archive.extractall(folder, filter="data")
    except (tarfile.TarError, OSError, EOFError) as error:
        raise ChartError(f"{package} is not a package of a chart: {error}") from None
    found = [path.parent for path in folder.glob("*/Chart.yaml")]
    if len(found) != 1:
        raise ChartError(f"{package} holds {len(found)} charts and not one")
    return found[0]


def _read(folder: Path, wanted: Wanted, checksum: str) -> Chart:
    """Return the chart in a folder. Raises ``ChartError`` unless it is the requested chart."""
    import yaml

    path = folder / "Chart.yaml"
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ChartError(f"{folder} is not a chart: it has no Chart.yaml") from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ChartError(f"{path} cannot be read: {error}") from None
    if not isinstance(content, Mapping):
        raise ChartError(f"{path} is not the description of a chart")
    name, version = str(content.get("name", "")), str(content.get("version", ""))
    if name != wanted.name:
        raise ChartError(f"{folder} is the chart {name!r} and not {wanted.name!r}")
    if wanted.version and version != wanted.version:
        raise ChartError(
            f"{folder} is {name} {version} and not {wanted.version}: bring that one, or set the version to {version}"
        )
    return Chart(folder, name, version, str(content.get("appVersion", "")), checksum)


def show_crds(chart: Chart, program: str, run: Run) -> str:
    """Return the CRDs in the crds/ folders of the chart and its subcharts, as YAML."""
    return _output(run, [program, "show", "crds", str(chart.folder)], chart)


def template(
    chart: Chart, program: str, run: Run, *, release: str, namespace: str, values: Path, cluster: Sequence[str]
) -> str:
    """Return the objects of a release as YAML, without hooks. cluster: arguments with the cluster's capabilities."""
    command = [program, "template", release, str(chart.folder), "--namespace", namespace, "--values", str(values)]
    return _output(run, [*command, "--no-hooks", "--skip-tests", *cluster], chart)


def cluster_arguments(version: str, api_versions: Sequence[str]) -> list[str]:
    """Return Helm's arguments for a cluster. version: as in '1.35'. api_versions: 'apps/v1', 'apps/v1/Deployment'."""
    arguments = ["--kube-version", version] if version else []
    return arguments + [word for name in sorted(set(api_versions)) for word in ("--api-versions", name)]


def _output(run: Run, command: Sequence[str], chart: Chart) -> str:
    status, output, errors = run(command)
    if not status:
        return output
    missing = _MISSING_DEPENDENCIES.search(errors)
    if missing:
        raise ChartError(
            f"{chart.folder} is not complete, these charts are missing below charts/: {missing[1]}. "
            f"Run `helm dependency build {chart.folder}` where the network is open, or take a package"
        )
    said = errors.strip().removeprefix("Error: ") or "nothing"
    raise ChartError(f"Helm cannot render {chart.name} {chart.version}: {said}")


def release_objects(documents: Sequence[Any], release: str, namespace: str) -> list[dict[str, Any]]:
    """Return the objects of a release as Helm writes them to the cluster.

    Helm adds its labels and annotations to each object. Hooks are not part of a release's objects: Helm runs them
    itself.

    Source: helm.sh/helm, pkg/action/validate.go (setMetadataVisitor) and pkg/release/v1/hook.go (HookAnnotation).
    """
    owned = [item for document in documents for item in _flatten(document) if not _is_hook(item)]
    return [_mark(item, release, namespace) for item in owned]


def _flatten(document: Any) -> list[Mapping[str, Any]]:
    if not isinstance(document, Mapping):
        return []
    if str(document.get("kind", "")).endswith("List") and isinstance(document.get("items"), list):
        return [item for entry in document["items"] for item in _flatten(entry)]
    return [document]


def _is_hook(item: Mapping[str, Any]) -> bool:
    return "helm.sh/hook" in ((item.get("metadata") or {}).get("annotations") or {})


def _mark(item: Mapping[str, Any], release: str, namespace: str) -> dict[str, Any]:
    metadata = dict(item.get("metadata") or {})
    metadata["labels"] = {**(metadata.get("labels") or {}), "app.kubernetes.io/managed-by": "Helm"}
    metadata["annotations"] = {
        **(metadata.get("annotations") or {}),
        "meta.helm.sh/release-name": release,
        "meta.helm.sh/release-namespace": namespace,
    }
    return {**item, "metadata": metadata}
