# SPDX-License-Identifier: GPL-3.0-or-later
"""Install a K3s cluster of three servers and two agents, and repeat the installation: `make bench-k3s` (as root).

Hosts are containers with systemd on this machine, and share its processors. The program is the stand-in for K3s with a
real etcd (tests/k3s): the figures include the work of the playbook and of etcd, and not the start of Kubernetes.
The exit code is 1 when a figure is beyond its limit, and 2 when something failed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.benchmarks.process import Measured, RunError, measure  # noqa: E402 - the program runs from any folder
from tests.benchmarks.report import Figure, table  # noqa: E402
from tests.k3s.build import build  # noqa: E402
from tools import systemd_hosts  # noqa: E402
from tools.claims import ClaimError, Place, places  # noqa: E402

VERSION = "v1.34.3+k3s1"
SERVERS = ("server1", "server2", "server3")
AGENTS = ("agent1", "agent2")
KEY = systemd_hosts.CACHE / "ssh" / "id_ed25519"
KNOWN_HOSTS = systemd_hosts.CACHE / "ssh" / "known_hosts"
SSH = f"-F /dev/null -o IdentitiesOnly=yes -o StrictHostKeyChecking=yes -o UserKnownHostsFile='{KNOWN_HOSTS}'"
CHANGED = re.compile(r"^\S+\s.*\bok=\d+\s+changed=(\d+)", re.MULTILINE)
# Prints when the service of a server or an agent was started last.
STARTED = "systemctl show --property=ExecMainStartTimestampMonotonic k3s k3s-agent"


def inventory(addresses: Mapping[str, str], release: Path, folder: Path) -> dict[str, Any]:
    """Return an inventory of the hosts. folder: of the kubeconfig."""

    def group(names: Sequence[str]) -> dict[str, Any]:
        return {"hosts": {name: {"ansible_host": addresses[name]} for name in names}}

    variables = {
        "ansible_connection": "ssh",
        "ansible_user": "root",
        "ansible_ssh_private_key_file": str(KEY),
        "ansible_ssh_common_args": SSH,
        "lakehouse_target": "k3s",
        "lakehouse_environment": "development",
        "k3s_version": VERSION,
        "k3s_cluster_name": "benchmark",
        "k3s_airgap_dir": str(release),
        "k3s_kubeconfig": str(folder / "kubeconfig"),
        "k3s_become": False,
    }
    return {"all": {"vars": variables, "children": {"k3s_servers": group(SERVERS), "k3s_agents": group(AGENTS)}}}


def install(folder: Path) -> Measured:
    """Run the playbook. Raises RunError when it fails."""
    program, playbook = ROOT / ".venv/bin/ansible-playbook", ROOT / "playbooks/k3s_install.yml"
    command: list[str | Path] = [program, "-i", folder / "hosts.json", playbook]
    variables = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_HOME": str(folder / "ansible")}
    return measure(command, folder, variables)


def changes(output: str) -> int:
    """Return how many tasks of all hosts changed something. Raises RunError without a summary of five hosts."""
    found = [int(number) for number in CHANGED.findall(output)]
    if len(found) < len(SERVERS + AGENTS):
        raise RunError(f"the playbook printed no summary of each host:\n{output[-2000:]}")
    return sum(found)


def started(addresses: Mapping[str, str]) -> dict[str, str]:
    """Return the start times of the services of K3s by host."""
    options = [*SSH.replace("'", "").split(), "-i", str(KEY)]
    command = {name: ["ssh", *options, f"root@{address}", STARTED] for name, address in addresses.items()}
    return {name: systemd_hosts.run(words) for name, words in command.items()}


def figures(place: Place, rounds: int) -> Iterator[Figure]:
    """Start hosts, install, and repeat the installation."""
    addresses = systemd_hosts.start(place.hosts, systemd_hosts.network(place.number), SERVERS + AGENTS)
    folder = Path(tempfile.mkdtemp(prefix="bench-k3s-", dir=place.folder))
    release = folder / "release"
    release.mkdir()
    build(VERSION, release)
    (folder / "hosts.json").write_text(json.dumps(inventory(addresses, release, folder)), encoding="utf-8")
    first = install(folder)
    yield Figure("installation of three servers and two agents", first.took_s, "s")
    yield Figure("installation, CPU time of the controller", first.cpu_s, "CPU s")
    before = started(addresses)
    again = [install(folder) for _round in range(rounds)]
    yield Figure("repeated installation", median(run.took_s for run in again), "s")
    yield Figure("repeated installation, CPU time of the controller", median(run.cpu_s for run in again), "CPU s")
    yield Figure("tasks that a repeated installation changed", max(changes(run.output) for run in again), "", 0)
    after = started(addresses)
    restarted = sum(times != after[name] for name, times in before.items())
    yield Figure("hosts on which the service of K3s restarted", restarted, "", 0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print the table; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="repeated installations (default: 3)")
    options = parser.parse_args(arguments)
    if os.geteuid() != 0 or not shutil.which("ssh"):
        print("bench-k3s: hosts with systemd require root and `make hosts`", file=sys.stderr)
        return 2
    try:
        with places() as claim:
            found = list(figures(claim(), options.rounds))
    except (RunError, ClaimError, systemd_hosts.HostsError) as error:
        print(f"bench-k3s: {error}", file=sys.stderr)
        return 2
    print(table(found))
    return int(not all(figure.holds for figure in found))


def _end(number: int, _frame: object) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    # As an interrupt: hosts are removed.
    signal.signal(signal.SIGTERM, _end)
    sys.exit(main())
