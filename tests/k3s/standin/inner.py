# SPDX-License-Identifier: GPL-3.0-or-later
"""Inner program of the stand-in: the subcommands."""

from __future__ import annotations

import os
import platform
import secrets
import string
import sys
from pathlib import Path

from tests.k3s.standin import agent, server, snapshots
from tests.k3s.standin.common import PROGRAMS, FatalError, log
from tests.k3s.standin.settings import KNOWN, parse


def check_config() -> None:
    """Check some requirements of K3s on the machine, in the format of `k3s check-config`."""
    mounted = "memory" in Path("/proc/cgroups").read_text(encoding="utf-8")
    print("Verifying binaries: the stand-in has none of K3s' binaries\n\nSystem:")
    print(f"- kernel: {platform.release()}\n- cgroup memory: {'mounted' if mounted else 'missing'}")
    print(f"\nSTATUS: {'pass' if mounted else '1 (fail)'}")
    sys.exit(0 if mounted else 1)


def token(words: list[str]) -> None:
    """Run `k3s token generate`."""
    if words != ["generate"]:
        raise FatalError(f"the stand-in has only `token generate`, not {words}")
    letters = string.ascii_lowercase + string.digits
    print(".".join("".join(secrets.choice(letters) for _index in range(length)) for length in (6, 16)))


def dispatch(program: str, words: list[str]) -> None:
    """Run the subcommand of the program's name or of the first argument."""
    command, *rest = ["kubectl", *words] if Path(program).name == "kubectl" else words or ["help"]
    if command == "kubectl":
        os.environ.setdefault("KUBECONFIG", KNOWN["defaults"]["write-kubeconfig"])
        os.execv(str(PROGRAMS / "kubectl"), ["kubectl", *rest])  # noqa: S606 - the real kubectl
    elif command == "server":
        server.run(parse(command, rest))
    elif command == "agent":
        agent.run(parse(command, rest))
    elif command == "etcd-snapshot":
        snapshots.run(parse(command, rest))
    elif command == "token":
        token(parse(command, rest).words)
    elif command == "check-config":
        check_config()
    else:
        raise FatalError(f"No help topic for '{command}' in the stand-in")


def main() -> None:
    """Run the command of the outer program; a fatal error is one log line and exit code 1."""
    program, *words = os.environ.pop("K3S_STANDIN_ARGUMENTS").split("\x1f")
    try:
        dispatch(program, words)
    except FatalError as error:
        log("fatal", f"Error: {error}")
        sys.exit(1)
