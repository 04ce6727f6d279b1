# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare an unchanged AWS foundation with that of the community's collections: `make bench-aws`.

The same foundation is created twice in one emulator, in separate accounts. First every attribute that this collection
manages is changed manually, one after the other, and the timed code has to find each. Then these programs are timed in
turns, each in a separate process: both playbooks, reading and comparing alone, bare concurrent describes, and
`deploy.yml -t aws` of the unchanged development environment in separate emulators. Finally, stacks of up to 1,000
resources are planned. The table is on standard output, the progress on standard error. The exit code is 1 when a figure
exceeds its limit, and 2 after a failure.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / ".venv" / "collections"))

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.task import StackTask  # noqa: E402
from tests.benchmarks.aws.account import HERE, foundation, parameters  # noqa: E402
from tests.benchmarks.aws.bare import describes  # noqa: E402
from tests.benchmarks.aws.detection import detect  # noqa: E402
from tests.benchmarks.aws.growth import SIZES, planning_s  # noqa: E402
from tests.benchmarks.aws.process import PEER_PROGRAMS, Run, Runner, middle  # noqa: E402
from tests.benchmarks.process import RunError  # noqa: E402
from tests.benchmarks.report import Figure, table  # noqa: E402
from tests.integration.aws.cloud import Cloud, open_cloud  # noqa: E402
from tests.integration.aws.emulator import Emulator, Server  # noqa: E402

LEAST_SPEEDUP = 20.0
# Per resource: the users' playbook has more than twice the peer's, which takes as long for each further one.
LEAST_SPEEDUP_OF_DEPLOYMENT = 15.0
DEPLOYMENT = (str(ROOT / "playbooks" / "deploy.yml"), "-t", "aws")
MOST_OF_BARE = 1.6
MOST_CALLS_OF_BARE = 1.3
PLANNING_LIMIT_S = 20.0
# Allowed additional time of each of 1,000 resources relative to each of 250.
MOST_GROWTH = 1.25
# Number per round, since all but the peer's playbook take seconds, which a busy machine influences.
SHORT_RUNS = 3
KIB_OF_MIB = 1024
Tell = Callable[[str], None]


def detection(account: Emulator, tell: Tell) -> Iterator[Figure]:
    """Change every attribute manually."""
    seen = detect(account, tell)
    yield Figure("attributes changed by hand and found", len(seen.found))
    yield Figure("attributes changed by hand and missed", len(seen.missed), "", 0)


def comparison(server: Server, ours: Emulator, cloud: Cloud, folder: Path, rounds: int, tell: Tell) -> Iterator[Figure]:
    """Time all programs in turns, without changes to make."""
    result = StackTask(parameters(ours, foundation()), check_mode=True).run()
    given = parameters(ours, foundation())
    bare = {name: given[name] for name in ("region", "endpoint_url", "access_key", "secret_key")}
    bare["calls"] = describes(result["outputs"])
    own, peer = Runner(ours, folder), Runner(server.account(), folder)
    tell(f"the peer's first run: {first_of_peer(peer).took_s:.1f} s")
    cloud.well("deploy", "-t", "aws")
    cloud.well("plan")
    planned = json.loads(cloud.plan_file().read_text("utf-8"))["nodes"]
    yield Figure("resources of deploy.yml -t aws", len(planned))
    programs: dict[str, tuple[Callable[[], Run], int]] = {
        "playbook of the peer": (peer.play_peer, 1),
        "playbook of this collection": (own.play_ours, SHORT_RUNS),
        "deploy.yml -t aws": (lambda: play_deployment(cloud, folder), SHORT_RUNS),
        "read and diff, cold process": (lambda: own.python("read", given), SHORT_RUNS),
        "bare describes, cold process": (lambda: own.python("bare", bare), SHORT_RUNS),
    }
    # Bytecode exists, and the caches of the machine are warm.
    for run, _times in list(programs.values())[1:]:
        run()
    runs = in_turns(programs, rounds, tell)
    for name in list(programs)[:3]:
        yield Figure(f"tasks that changed something, {name}", max(run.changed for run in runs[name]), "", 0)
    peer_run, playbook, deployment, read, bare_run = (middle(runs[name]) for name in programs)
    yield from figures(peer_run, playbook, deployment, read, bare_run, len(planned))


def first_of_peer(peer: Runner) -> Run:
    """Create the foundation with the community's collections, so that later runs find no changes."""
    # Their collections have no module for a database of the catalog, which their crawlers require.
    peer.account.client("glue").create_database(DatabaseInput={"Name": "crypto_lakehouse_benchmark"})
    return peer.play_peer()


def play_deployment(cloud: Cloud, folder: Path) -> Run:
    """Run the users' playbook with the inventory of the development environment."""
    return Runner(cloud.account, folder).run(cloud.command(*DEPLOYMENT), cloud.variables)


def in_turns(programs: dict[str, tuple[Callable[[], Run], int]], rounds: int, tell: Tell) -> dict[str, list[Run]]:
    """Run all programs in several rounds, the frequent ones alternating."""
    runs: dict[str, list[Run]] = {name: [] for name in programs}
    for number in range(1, rounds + 1):
        for turn in range(max(times for _run, times in programs.values())):
            for name, (run, times) in programs.items():
                if turn < times:
                    runs[name].append(run())
                    tell(f"round {number}: {name}: {runs[name][-1].in_words()}")
    return runs


def figures(peer: Run, playbook: Run, deployment: Run, read: Run, bare: Run, resources: int) -> Iterator[Figure]:
    """Yield the measurements, and the ratios with limits.

    resources: number of resources of the deployment.
    """
    named = {
        "playbook of the peer": peer,
        "playbook of this collection": playbook,
        "deploy.yml -t aws": deployment,
        "read and diff": read,
        "bare describes": bare,
    }
    for name, run in named.items():
        yield Figure(f"{name}: seconds", run.took_s, "s")
        yield Figure(f"{name}: seconds of processors", run.cpu_s, "s")
        yield Figure(f"{name}: API calls", run.calls)
        yield Figure(f"{name}: memory of its largest process", run.memory_kib / KIB_OF_MIB, "MiB")
    speedup = peer.took_s / playbook.took_s
    yield Figure("playbook: faster than the peer's", speedup, "times", LEAST_SPEEDUP, at_least=True)
    speedup = peer.took_s / deployment.took_s
    yield Figure("deploy.yml -t aws: faster than the peer's", speedup, "times")
    # It depends least on a busy machine, and excludes the emulator.
    yield Figure("deploy.yml -t aws: processor time of the peer's", peer.cpu_s / deployment.cpu_s, "times")
    each = speedup * resources / len(foundation())
    yield Figure("each resource: faster than the peer's", each, "times", LEAST_SPEEDUP_OF_DEPLOYMENT, at_least=True)
    yield Figure("read and diff: of bare describes", read.took_s / bare.took_s, "times", MOST_OF_BARE)
    yield Figure("read and diff: API calls of bare describes", read.calls / bare.calls, "times", MOST_CALLS_OF_BARE)
    yield Figure("playbook: API calls of bare describes", playbook.calls / bare.calls, "times", MOST_CALLS_OF_BARE)


def growth(server: Server, folder: Path, rounds: int) -> Iterator[Figure]:
    """Plan stacks of different sizes."""
    took = planning_s(server, folder, rounds)
    for size in SIZES:
        yield Figure(f"{size} resources planned", took[size], "s", PLANNING_LIMIT_S)
    small, large = SIZES[0], SIZES[-1]
    each = (took[large] / large) / (took[small] / small)
    yield Figure(f"each of {large} resources: of each of {small}", each, "times", MOST_GROWTH)


def measure(rounds: int, folder: Path, tell: Tell) -> list[Figure]:
    """Measure all figures on an emulator that is started for them."""
    made: list[Figure] = []
    moto = (sys.executable, str(HERE / "completed_moto.py"))
    place = folder / "deployment"
    place.mkdir()
    server = Server.start("moto", folder, moto)
    try:
        ours = server.account()
        with open_cloud(place, moto) as cloud:
            for part in (
                detection(ours, tell),
                comparison(server, ours, cloud, folder, rounds, tell),
                growth(server, folder, rounds),
            ):
                for figure in part:
                    tell(": ".join(figure.cells()[:2]))
                    made.append(figure)
    finally:
        server.stop()
    return made


def _tell(line: str) -> None:
    print(f"bench-aws: {line}", file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line, measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="how often the peer's playbook is run (3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file as well")
    options = parser.parse_args(arguments)
    if not (PEER_PROGRAMS / "ansible-playbook").exists():
        parser.error("the peer is not installed: run `make bench-aws`")
    # After a termination, the benchmark stops its emulator as after an interrupt from the keyboard.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with tempfile.TemporaryDirectory(prefix="bench-aws-") as folder:
            made = measure(max(1, options.rounds), Path(folder), _tell)
    except RunError as error:
        print(f"bench-aws: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("bench-aws: interrupted", file=sys.stderr)
        return 130
    if options.json:
        options.json.write_text(json.dumps([figure.as_json() for figure in made], indent=2) + "\n", encoding="utf-8")
    print(table(made))
    return int(not all(figure.holds for figure in made))


if __name__ == "__main__":
    sys.exit(main())
