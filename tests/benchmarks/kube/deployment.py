# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure `deploy.yml` on a cluster with a deployed lakehouse: seconds, and CPU time of the controller.

API server and controllers are real. Nodes and charts are simulated, so the query and the health examination, which
programs answer, are omitted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

from tests.benchmarks.process import measure
from tests.benchmarks.report import Figure
from tests.integration.kube.charts import ROOT, write_monitoring
from tests.integration.kube.cluster import ControlPlane
from tests.integration.kube.hollow import HollowNode
from tests.integration.kube.lakehouse import TAGS, Lakehouse
from tests.integration.kube.roleplay import helm_program
from tests.integration.playbook import Run

STORAGE_CLASSES = "/apis/storage.k8s.io/v1/storageclasses"
STORAGE = {
    "apiVersion": "storage.k8s.io/v1",
    "kind": "StorageClass",
    "metadata": {"name": "fast", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
    "provisioner": "example.org/none",
    "volumeBindingMode": "WaitForFirstConsumer",
}


def has_controllers(assets: Path) -> bool:
    """Return whether the programs of a control plane include the controllers, which rollouts require."""
    return (assets / "kube-controller-manager").exists()


def measured(assets: Path, folder: Path, rounds: int, tell: Callable[[str], None]) -> Iterator[Figure]:
    """Deploy on a separate control plane, and time the later deployments."""
    plane = ControlPlane(folder / "control-plane", assets)
    try:
        cluster = plane.start()
        client = cluster.client()
        client.request("POST", STORAGE_CLASSES, body=STORAGE)
        client.close()
        (folder / "charts").mkdir()
        write_monitoring(folder / "charts")
        with HollowNode(cluster, folder, {"verify": ""}).running():
            yield from _timed(Lakehouse(cluster, folder, helm_program(assets)), rounds, tell)
    finally:
        plane.stop()


def _timed(lakehouse: Lakehouse, rounds: int, tell: Callable[[str], None]) -> Iterator[Figure]:
    lakehouse.deploy()
    tell("deployed")
    runs = []
    for number in range(1, rounds + 1):
        run = measure(_command(lakehouse), lakehouse.folder, lakehouse.environment)
        runs.append(run)
        tell(f"round {number}: deployment in place: {run.took_s:.2f} s, {run.cpu_s:.2f} s of processors")
    changes = max(Run(0, run.output).changed for run in runs)
    yield Figure("deployment in place: tasks that changed something", changes, "", 0)
    yield Figure("deployment in place: seconds", median(run.took_s for run in runs), "s")
    yield Figure("deployment in place: seconds of processors", median(run.cpu_s for run in runs), "CPU s")


def _command(lakehouse: Lakehouse) -> list[str]:
    """Return the command of a deployment, for any working directory."""
    words = lakehouse.command("deploy", "-t", TAGS)
    return [str(ROOT / word) if word.startswith(("inventories/", "playbooks/")) else word for word in words]
