# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare programs that apply 125 unchanged objects with server-side apply: `make bench-kube`.

The same file is applied by `kubectl apply --server-side`, by a playbook with kubernetes.core.k8s, by one with this
collection's k8s_apply, and by the bare requests. A playbook with an empty task is the lower limit of both. Then every
object is changed each time, and applied by k8s_apply's phase and by the bare requests. CPU seconds are those of the
programs without the cluster's; they depend least on a busy machine. The cluster is that of KUBECONFIG, or one that is
started from the binaries in KUBEBUILDER_ASSETS. Before the measurements every object is changed manually, and k8s_apply
has to find each change. All created objects are removed. Where a cluster is started and its controllers are available,
`deploy.yml` is timed on another one with a deployed lakehouse. The exit code is 1 when a figure exceeds its limit, 2
after a failure.
"""

from __future__ import annotations

import argparse
import base64
import itertools
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / ".venv" / "collections"))

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.client import Client  # noqa: E402
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.config import connection  # noqa: E402
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.discovery import Discovery  # noqa: E402
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.errors import KubeError  # noqa: E402
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.manifests.manifests import load  # noqa: E402
from tests.benchmarks.kube import deployment  # noqa: E402
from tests.benchmarks.kube.objects import objects, revised  # noqa: E402
from tests.benchmarks.kube.process import PROGRAMS, Run, Runner, middle  # noqa: E402
from tests.benchmarks.process import RunError  # noqa: E402
from tests.benchmarks.report import Figure, table  # noqa: E402
from tests.integration.kube.cluster import ASSETS, ControlPlane, given_assets, given_kubeconfig  # noqa: E402

LEAST_OF_KUBECTL = 3.0
LEAST_OF_PEER = 8.0
LEAST_OF_PEER_CPU = 7.0
MOST_OF_NOTHING = 1.7
MOST_OF_BARE = 0.3
MOST_OF_BARE_CHANGED = 1.4
KIB_OF_MIB = 1024
MANAGER = "benchmark-ours"
PARTS = ("objects", "deployment")
Tell = Callable[[str], None]


@contextmanager
def a_cluster(folder: Path) -> Iterator[Path]:
    """Yield the kubeconfig of the measured cluster."""
    given, assets = given_kubeconfig(os.environ), given_assets(os.environ)
    if given:
        yield given.resolve()
        return
    if assets is None:
        raise RunError(f"no cluster: set KUBECONFIG, or {ASSETS} to a folder with kube-apiserver and etcd")
    plane = ControlPlane(folder / "control-plane", assets)
    try:
        yield plane.start().kubeconfig
    finally:
        plane.stop()


def requests(client: Client, file: Path) -> list[tuple[str, Any]]:
    """Return the path and body of each object's apply."""
    discovery = Discovery(client)
    made = []
    for manifest in load([], [str(file)]):
        resource = discovery.find(manifest.api_version, manifest.kind)
        if resource is None:
            raise RunError(f"the cluster does not know {manifest.kind} ({manifest.api_version})")
        made.append((resource.path(manifest.namespace, manifest.name), manifest.content))
    return made


def edited(client: Client, paths: Sequence[str]) -> None:
    """Change a label of every object manually."""
    for path in paths:
        body = {"metadata": {"labels": {"app.kubernetes.io/part-of": "somebody-else"}}}
        client.request("PATCH", path, body=body, content_type="application/merge-patch+json")


def measured(runner: Runner, rounds: int, tell: Tell) -> Iterator[Figure]:
    """Apply the objects with all programs, find the edited ones, and time all programs in turns."""
    client = Client(connection({"kubeconfig": str(runner.kubeconfig)}))
    given = {"kubeconfig": str(runner.kubeconfig), "objects": str(runner.objects), "revision": ""}
    ours = {**given, "field_manager": MANAGER}
    runner.play("ours.yml")
    made = requests(client, runner.objects)
    edited(client, [path for path, _body in made])
    found = runner.python("phase", {**ours, "force_conflicts": True}).told["actions"].get("update", 0)
    yield Figure("objects changed by hand and found", found, "", len(made), at_least=True)
    server = _address(runner.kubeconfig, runner.folder)
    query = "fieldManager=benchmark-bare&fieldValidation=Strict"
    bare = {**server, "requests": [(f"{path}?{query}", body) for path, body in made]}
    revisions = map(str, itertools.count(1))

    def changing() -> Run:
        return runner.python("phase", {**ours, "force_conflicts": True, "revision": next(revisions)})

    def changing_bare() -> Run:
        revision = next(revisions)
        sent = [(f"{path}?{query}&force=true", revised(body, revision)) for path, body in made]
        return runner.python("bare", {**server, "requests": sent})

    programs: dict[str, Callable[[], Run]] = {
        "kubectl": runner.kubectl,
        "playbook of kubernetes.core": lambda: runner.play("peer.yml"),
        "playbook of this collection": lambda: runner.play("ours.yml"),
        "playbook that does nothing": lambda: runner.play("floor.yml"),
        "phase of this collection": lambda: runner.python("phase", {**ours, "force_conflicts": False}),
        "bare requests": lambda: runner.python("bare", bare),
    }
    in_place = _timed(programs, rounds, tell)
    others = {"phase, every object changed": changing, "bare requests, every object changed": changing_bare}
    yield from compared(in_place, _timed(others, rounds, tell), len(made))


def _timed(programs: Mapping[str, Callable[[], Run]], rounds: int, tell: Tell) -> dict[str, list[Run]]:
    """Run all programs in turns; the first run is not measured and prepares the state for the next ones."""
    for name, run in programs.items():
        tell(f"first: {name}: {run().in_words()}")
    runs: dict[str, list[Run]] = {name: [] for name in programs}
    for number in range(1, rounds + 1):
        for name, run in programs.items():
            runs[name].append(run())
            tell(f"round {number}: {name}: {runs[name][-1].in_words()}")
    return runs


def _address(kubeconfig: Path, folder: Path) -> dict[str, Any]:
    """Return the address of the server and the files that a plain client needs."""
    configured = connection({"kubeconfig": str(kubeconfig)})
    host, _colon, port = configured.server.removeprefix("https://").rpartition(":")
    return {"host": host, "port": int(port), **_files(kubeconfig, folder)}


def _files(kubeconfig: Path, folder: Path) -> dict[str, str]:
    content = yaml.safe_load(kubeconfig.read_text("utf-8"))
    cluster, user = content["clusters"][0]["cluster"], content["users"][0]["user"]
    parts = {
        "authority": [cluster["certificate-authority-data"]],
        "certificate": [user["client-certificate-data"], user["client-key-data"]],
    }
    for name, encoded in parts.items():
        path = folder / name
        path.touch(0o600)
        path.write_bytes(b"\n".join(base64.b64decode(part) for part in encoded))
    return {name: str(folder / name) for name in parts}


def compared(in_place: dict[str, list[Run]], changing: dict[str, list[Run]], count: int) -> Iterator[Figure]:
    """Yield the measurements, and the ratios with limits. count: number of objects."""
    kubectl, peer, playbook, floor, phase, bare = (middle(of) for of in in_place.values())
    for name in list(in_place)[1:4]:
        yield Figure(f"tasks that changed something, {name}", max(run.changed for run in in_place[name]), "", 0)
    for name, of in {**in_place, **changing}.items():
        run = middle(of)
        yield Figure(f"{name}: seconds", run.told.get("phase_s", run.took_s), "s")
        yield Figure(f"{name}: seconds of processors", run.told.get("phase_cpu_s", run.cpu_s), "CPU s")
        yield Figure(f"{name}: memory of its largest process", run.memory_kib / KIB_OF_MIB, "MiB")
    changed, changed_bare = (middle(of) for of in changing.values())
    yield Figure("phase of this collection: requests", phase.told["calls"])
    yield Figure("phase, every object changed: objects", changed.told["actions"].get("update", 0), "", count, True)
    yield Figure("phase, every object changed: requests", changed.told["calls"])
    yield Figure("playbook: faster than kubectl", kubectl.took_s / playbook.took_s, "times", LEAST_OF_KUBECTL, True)
    yield Figure("playbook: faster than the peer's", peer.took_s / playbook.took_s, "times", LEAST_OF_PEER, True)
    yield Figure("playbook: of one that does nothing", playbook.took_s / floor.took_s, "times")
    yield Figure("processors: kubectl, of the playbook's", kubectl.cpu_s / playbook.cpu_s, "times")
    yield Figure(
        "processors: the peer's, of the playbook's", peer.cpu_s / playbook.cpu_s, "times", LEAST_OF_PEER_CPU, True
    )
    ratio = playbook.cpu_s / floor.cpu_s
    yield Figure("processors: the playbook's, of one that does nothing", ratio, "times", MOST_OF_NOTHING)
    yield Figure("phase: of bare requests", phase.told["phase_s"] / bare.told["phase_s"], "times", MOST_OF_BARE)
    # The module reads an object first to report its changes, and the bare requests report nothing.
    ratio = changed.told["phase_s"] / changed_bare.told["phase_s"]
    yield Figure("phase, every object changed: of bare requests", ratio, "times", MOST_OF_BARE_CHANGED)


def removed(kubeconfig: Path, file: Path) -> None:
    """Remove every object of the file."""
    client = Client(connection({"kubeconfig": str(kubeconfig)}))
    for path, _body in requests(client, file):
        try:
            client.request("DELETE", path)
        except KubeError:
            # Deleted with its namespace, or with its kind.
            continue


def measure(rounds: int, manifests: Path | None, folder: Path, tell: Tell) -> list[Figure]:
    """Measure all figures on one cluster."""
    file = manifests or folder / "objects.yaml"
    if manifests is None:
        file.write_text(yaml.dump_all(objects(), Dumper=yaml.CSafeDumper, width=200), "utf-8")
    tell(f"{file.stat().st_size / 1e6:.1f} MB of objects")
    with a_cluster(folder) as kubeconfig:
        try:
            return list(measured(Runner(kubeconfig, file, folder), rounds, tell))
        finally:
            removed(kubeconfig, file)


def measure_deployment(rounds: int, folder: Path, tell: Tell) -> list[Figure]:
    """Measure an unchanged deployment, on a cluster that is started for it."""
    assets = given_assets(os.environ)
    if given_kubeconfig(os.environ) or assets is None or not deployment.has_controllers(assets):
        tell(f"no deployment is timed: set {ASSETS} to a folder with kube-controller-manager, and no KUBECONFIG")
        return []
    place = folder / "deployment"
    place.mkdir()
    return list(deployment.measured(assets, place, rounds, tell))


def _tell(line: str) -> None:
    print(f"bench-kube: {line}", file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line, measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="how often everything is run (5)")
    parser.add_argument("--manifests", type=Path, metavar="FILE", help="apply these objects instead")
    parser.add_argument("--only", choices=PARTS, metavar="PART", help=f"measure one part: {' or '.join(PARTS)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file as well")
    options = parser.parse_args(arguments)
    if not (PROGRAMS / "kubectl").exists():
        parser.error("kubectl is not there: run `make bench-kube`")
    # After a termination, the benchmark stops its control plane as after an interrupt from the keyboard.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with tempfile.TemporaryDirectory(prefix="bench-kube-") as folder:
            rounds, place = max(1, options.rounds), Path(folder)
            made = measure(rounds, options.manifests, place, _tell) if options.only != "deployment" else []
            made += measure_deployment(rounds, place, _tell) if options.only != "objects" else []
            if not made:
                raise RunError("nothing was measured")
    except (RunError, KubeError, OSError) as error:
        print(f"bench-kube: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("bench-kube: interrupted", file=sys.stderr)
        return 130
    if options.json:
        options.json.write_text(json.dumps([figure.as_json() for figure in made], indent=2) + "\n", encoding="utf-8")
    print(table(made))
    return int(not all(figure.holds for figure in made))


if __name__ == "__main__":
    sys.exit(main())
