# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the module helm_chart: download, verify and render a chart, and read the release's state from the cluster."""

from __future__ import annotations

import base64
import gzip
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..kube.client.client import METADATA_LIST, Client, look
from ..kube.client.connection import Connection
from ..kube.client.discovery import Discovery
from ..kube.client.paths import core_path
from ..kube.manifests.names import LABEL, RELEASE, check_names
from ..kube.yaml.documents import read
from . import access as helm_access
from . import charts
from .chart_pull import ChartError, Kept, Run, Wanted, write_private

# Every server serves these, but Helm does not know them: the library that it is built with lacks them.
_ALWAYS_SERVED = ("apiextensions.k8s.io/v1", "apiregistration.k8s.io/v1")
_PENDING = "pending-install,pending-upgrade,pending-rollback"
# Of temporary folders for charts without a destination.
_FOLDER_PREFIX = "lakehouse-chart-"
_GZIP = b"\x1f\x8b\x08"


@dataclass(frozen=True)
class Cluster:
    """Properties of a cluster for Helm. version: 'v1.35.2'. api_versions: 'apps/v1' and 'apps/v1/Deployment'."""

    version: str
    api_versions: tuple[str, ...] = ()

    @property
    def arguments(self) -> list[str]:
        return charts.cluster_arguments(self.version, self.api_versions)


def ask_cluster(client: Client) -> Cluster:
    """Return version and resources of the cluster."""
    discovery = Discovery(client)
    kinds = {f"{resource.api_version}/{resource.kind}" for resource in discovery.all()}
    versions = {resource.api_version for resource in discovery.all()}
    return Cluster(discovery.server_version, tuple(sorted(kinds | versions)))


def find_pending(client: Client, release: str, namespace: str, now: datetime | None = None) -> list[dict[str, Any]]:
    """Return the unfinished revisions of a release: Helm is running, or was interrupted.

    Each has `name` (of its Secret), `status` and `age_s`. They block further Helm operations.

    Source: helm.sh/helm, pkg/storage/driver/secrets.go (labels) and pkg/release/common/status.go.
    """
    moment = now or datetime.now(UTC)
    query = {"labelSelector": f"owner=helm,name={release},status in ({_PENDING})"}
    found = client.pages(core_path(namespace, "secrets"), query=query)
    return [_pending(item["metadata"], moment) for item in found]


def newest_revision(client: Client, release: str, namespace: str) -> Mapping[str, Any] | None:
    """Return the metadata of the Secret with Helm's last revision of a release, finished or not, or None."""
    query = {"labelSelector": f"owner=helm,name={release}"}
    # Each Secret contains a whole chart, and at most one of them is relevant.
    found = client.request("GET", core_path(namespace, "secrets"), query=query, accept=METADATA_LIST)
    listed: list[Mapping[str, Any]] = [item["metadata"] for item in found.get("items") or ()]
    return max(listed, key=lambda metadata: int(metadata["labels"].get("version") or 0), default=None)


def deployed_record(client: Client, newest: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return Helm's record of a revision: `chart.metadata`, and `config`, the values. None for a failed revision.

    Source: helm.sh/helm, pkg/storage/driver/util.go (decodeRelease).
    """
    if newest is None or newest["labels"].get("status") != "deployed":
        return None
    found = look(client, core_path(newest["namespace"], "secrets", newest["name"]))
    if found is None:
        return None
    packed = base64.b64decode(base64.b64decode(found["data"]["release"]))
    record: dict[str, Any] = json.loads(gzip.decompress(packed) if packed.startswith(_GZIP) else packed)
    return record


def is_current(record: Mapping[str, Any] | None, chart: Mapping[str, str], values: Mapping[str, Any]) -> bool:
    """Return whether a revision has this chart, by name and versions, and these values."""
    if record is None:
        return False
    about = record["chart"]["metadata"]
    named = (about["name"], about["version"], about.get("appVersion") or "")
    return named == (chart["name"], chart["version"], chart["app_version"]) and (record.get("config") or {}) == values


def _pending(metadata: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    labels = metadata.get("labels") or {}
    touched = labels.get("modifiedAt") or labels.get("createdAt")
    if touched and touched.isdigit():
        begun = datetime.fromtimestamp(int(touched), UTC)
    else:
        begun = datetime.fromisoformat(metadata["creationTimestamp"])
    age_s = max(0, int((now - begun).total_seconds()))
    return {"name": metadata["name"], "status": labels.get("status", ""), "age_s": age_s}


def render(parameters: Mapping[str, Any], program: str, run: Run, cluster: Cluster, folder: Path) -> dict[str, Any]:
    """Download the chart, and write its CRDs and objects to `folder`. Raises ``ChartError``."""
    names = ("version", "repository", "path", "checksum", "ca_bundle")
    account = {word: parameters[f"chart_{word}"] for word in ("username", "password")}
    wanted = Wanted(name=parameters["chart"], **{name: parameters[name] for name in names}, **account)
    chart = charts.fetch(wanted, program, run, folder, Kept.of(os.environ))
    release, namespace = parameters["release_name"], parameters["release_namespace"]
    values = folder / "values.json"
    write_private(values, parameters["release_values"])
    text = charts.template(
        chart, program, run, release=release, namespace=namespace, values=values, cluster=cluster.arguments
    )
    left = set(parameters["left_to_helm"])
    rendered = charts.release_objects(_documents(text, chart), release, namespace)
    objects = [content for content in rendered if content["kind"] not in left]
    crds = charts.show_crds(chart, program, run)
    definitions = folder / "crds.yaml"
    definitions.write_text(crds, encoding="utf-8")
    listed = folder / "objects.json"
    write_private(listed, {"apiVersion": "v1", "kind": "List", "items": objects})
    result: dict[str, Any] = {"chart": chart.described(), "kubernetes_version": cluster.version}
    result |= {"crds": sum(line.startswith("kind: CustomResourceDefinition") for line in crds.splitlines())}
    return result | {"crds_path": str(definitions), "objects": len(objects), "objects_path": str(listed)}


def _documents(text: str, chart: charts.Chart) -> list[Any]:
    documents, faults = read(text)
    if faults:
        raise ChartError(
            f"cannot read the rendered objects of {chart.name} {chart.version}: {faults[0].message} "
            f"(document {faults[0].number}, line {faults[0].line}). Check the values"
        )
    return [document.content for document in documents]


def check_destination(folder: Path) -> None:
    """Raise ``ChartError`` unless `folder` is empty, so that files of an earlier run are not used as a chart."""
    if not folder.is_dir():
        raise ChartError(f"the destination {folder} is not a folder. Create one, as with ansible.builtin.tempfile")
    if any(folder.iterdir()):
        raise ChartError(f"the destination {folder} is not empty. Use a new folder, or delete its contents")


def run_program(command: Sequence[str]) -> tuple[int, str, str]:
    """Run a command line; return its exit code, output and errors. Raises ``OSError``."""
    # AnsibleModule.run_command needs a module, which an action does not have.
    done = subprocess.run(  # pylint: disable=ansible-bad-function
        command, stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    return done.returncode, done.stdout.decode(errors="surrogateescape"), done.stderr.decode(errors="surrogateescape")


@dataclass(frozen=True)
class ChartTask:
    """A task of the module helm_chart.

    connection: None without a cluster. hide: receives secret values to mask in the result.
    """

    parameters: Mapping[str, Any]
    connection: Connection | None
    hide: Callable[[Iterable[str]], None]
    run: Run = run_program
    find_program: Callable[[str], str | None] = shutil.which

    def result(self) -> dict[str, Any]:
        """Return the result. Raises ``ChartError`` and ``KubeError``."""
        given = self.parameters["destination"]
        if self.parameters["state"] == "absent":
            remove_folder(Path(given))
            return {}
        folder = Path(given or tempfile.mkdtemp(prefix=_FOLDER_PREFIX))
        try:
            return {"folder": str(folder)} | self._prepared(folder)
        except BaseException:
            if not given:
                shutil.rmtree(folder)
            raise

    def _prepared(self, folder: Path) -> dict[str, Any]:
        parameters = self.parameters
        check_destination(folder)
        release, namespace = parameters["release_name"], parameters["release_namespace"]
        check_names({"release_name": (release, RELEASE), "release_namespace": (namespace, LABEL)})
        access: dict[str, Any] = {"installed": False, "current": False, "pending": [], "kubeconfig_path": ""}
        record = None
        cluster = Cluster(parameters["kubernetes_version"], _ALWAYS_SERVED)
        if self.connection is not None:
            client = Client(self.connection)
            access["kubeconfig_path"] = self._write_kubeconfig(folder, self.connection)
            cluster = ask_cluster(client)
            newest = newest_revision(client, release, namespace)
            record = deployed_record(client, newest) if parameters["render"] else None
            access["installed"] = newest is not None
            access["pending"] = find_pending(client, release, namespace)
        if not parameters["render"] and not access["installed"]:
            return access
        program = self._program()
        access |= {"binary_path": program, "helm_version": charts.helm_version(self.run, program)}
        if not parameters["render"]:
            return access
        rendered = render(parameters, program, self.run, cluster, folder)
        return access | rendered | {"current": is_current(record, rendered["chart"], parameters["release_values"])}

    def _write_kubeconfig(self, folder: Path, connection: Connection) -> str:
        config = helm_access.kubeconfig(connection)
        self.hide(helm_access.secrets_of(config))
        write_private(folder / "kubeconfig", config)
        return str(folder / "kubeconfig")

    def _program(self) -> str:
        found = self.parameters["binary_path"] or self.find_program("helm")
        if not found:
            raise ChartError(f"helm is not on the search path. {charts.HOW_TO_GET_HELM}")
        return str(Path(found).expanduser())


def remove_folder(folder: Path) -> None:
    """Remove a temporary folder of this module. Raises ``ChartError`` for any other path."""
    parent = Path(tempfile.gettempdir())
    if folder.parent != parent or not folder.name.startswith(_FOLDER_PREFIX):
        raise ChartError(
            f"cannot remove {folder}: only {parent}/{_FOLDER_PREFIX}*, folders of this module, are removed"
        )
    try:
        # Refuses a symbolic link.
        shutil.rmtree(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        raise ChartError(f"cannot remove {folder}: {error.strerror or error}") from None
