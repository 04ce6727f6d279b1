# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure the figures of the README on this machine: `make bench`, or `python -m tests.benchmarks`.

A lakehouse is deployed into a scratch folder, measured, and removed completely. The table is on standard output, the
output of the playbooks on standard error. The exit code is 1 when a figure exceeds its limit, and 2 after a failure.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / ".venv" / "collections"))

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.processes import (  # noqa: E402
    read_processes,
    with_descendants,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.supervisor import Supervisor  # noqa: E402
from tests.benchmarks.deployment import BenchmarkError, Deployment  # noqa: E402
from tests.benchmarks.memory import Memory, held_by  # noqa: E402
from tests.benchmarks.queries import queries  # noqa: E402
from tests.benchmarks.recovery import recovery_times  # noqa: E402
from tests.benchmarks.report import Figure, table  # noqa: E402

FIRST_LIMIT_S = 120.0
SECOND_LIMIT_S = 10.0
MEMORY_LIMIT_MIB = 1536.0
RECOVERY_LIMIT_S = 30.0
# Above this, ports would be among those of outgoing connections in Linux.
HIGHEST_PORT_OFFSET = 13_400
MEMORY_SAMPLES = 10
KIB_OF_MIB = 1024


def deployments(deployment: Deployment) -> Iterator[Figure]:
    """Deploy with an empty cache, with a full one, and once more without remaining changes."""
    yield Figure("first deployment, packages to be downloaded", deployment.play("deploy").took_s, "s")
    deployment.forget_all_but_packages()
    yield Figure("first deployment, packages downloaded", deployment.play("deploy").took_s, "s", FIRST_LIMIT_S)
    second = deployment.play("deploy")
    yield Figure("second deployment", second.took_s, "s", SECOND_LIMIT_S)
    # Of the command and all of its processes: the figure with the least influence of a busy machine.
    yield Figure("second deployment, processor time", second.cpu_s, "s")
    yield Figure("tasks that the second deployment changed", second.changed, "", 0)


def memory(deployment: Deployment) -> Iterator[Figure]:
    """Yield the maximum memory of supervisord and its descendants at several times."""
    most = Memory()
    for _sample in range(MEMORY_SAMPLES):
        root = Supervisor(deployment.socket).pid()
        if root is None:
            raise BenchmarkError("supervisord does not answer")
        held = held_by(with_descendants([root], read_processes()))
        most = Memory(max(most.pss_kib, held.pss_kib), max(most.rss_kib, held.rss_kib))
        time.sleep(1)
    for name, kib in (("shared pages once", most.pss_kib), ("shared pages for each process", most.rss_kib)):
        yield Figure(f"memory of all services, {name}", kib / KIB_OF_MIB, "MiB", MEMORY_LIMIT_MIB)


def recoveries(deployment: Deployment) -> Iterator[Figure]:
    """Kill each service and wait until all services are healthy."""
    for name, took_s in recovery_times(deployment):
        yield Figure(f"all healthy after {name} was killed", took_s, "s", RECOVERY_LIMIT_S)


@contextmanager
def scratch_deployment(port_offset: int) -> Iterator[Deployment]:
    """Provide a deployment for the block, and remove it completely afterwards."""
    scratch = Path(tempfile.mkdtemp(prefix="lakehouse-bench-"))
    # The service user needs access to its folder, and other users need none.
    scratch.chmod(0o711)
    deployment = Deployment(scratch, port_offset)
    try:
        yield deployment
    finally:
        deployment.remove()
        shutil.rmtree(scratch)


PARTS: dict[str, Callable[[Deployment], Iterator[Figure]]] = {
    "deployments": deployments,
    "memory": memory,
    "queries": queries,
    "recoveries": recoveries,
}


def measure(port_offset: int, parts: Sequence[str]) -> list[Figure]:
    """Measure the parts, and print each figure on standard error as soon as it is known."""
    figures: list[Figure] = []
    with scratch_deployment(port_offset) as deployment:
        if "deployments" not in parts:
            deployment.play("deploy")
        for part in (PARTS[name] for name in PARTS if name in parts):
            for figure in part(deployment):
                print(f"bench: {figure.name}: {figure.cells()[1]}", file=sys.stderr, flush=True)
                figures.append(figure)
    return figures


def _port_offset(text: str) -> int:
    offset = int(text)
    if not 0 <= offset <= HIGHEST_PORT_OFFSET:
        raise argparse.ArgumentTypeError(f"{offset} is not from 0 to {HIGHEST_PORT_OFFSET}")
    return offset


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line, measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--port-offset", type=_port_offset, default=9000, metavar="N", help="added to every port (9000)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file as well")
    parser.add_argument(
        "--only", action="append", choices=list(PARTS), metavar="PART", help=f"measure one part: {', '.join(PARTS)}"
    )
    options = parser.parse_args(arguments)
    # After a termination, the benchmark cleans up as after an interrupt from the keyboard.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        figures = measure(options.port_offset, options.only or list(PARTS))
    except BenchmarkError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("bench: interrupted; everything was removed", file=sys.stderr)
        return 130
    if options.json:
        options.json.write_text(json.dumps([figure.as_json() for figure in figures], indent=2) + "\n", encoding="utf-8")
    print(table(figures))
    return int(not all(figure.holds for figure in figures))


if __name__ == "__main__":
    sys.exit(main())
