# SPDX-License-Identifier: GPL-3.0-or-later
"""Run ansible-playbook in forks of a process that has imported Ansible. The import takes longer than most runs.

Each line of standard input is a request, ``[folder, environment, arguments, output]``. The answer is the exit code.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Mapping, Sequence

from ansible import constants
from ansible.cli.playbook import main


def run(folder: str, environment: Mapping[str, str], arguments: Sequence[str], output: str) -> None:
    """Turn this process into a run of ansible-playbook; exit with its exit code."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    written = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(written, 1)
    os.dup2(written, 2)
    # Ansible reads its settings when it is imported.
    importlib.reload(constants)
    main(["ansible-playbook", *arguments])


def serve() -> None:
    """Answer requests until standard input ends."""
    while line := sys.stdin.readline():
        child = os.fork()
        if not child:
            run(*json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    serve()
