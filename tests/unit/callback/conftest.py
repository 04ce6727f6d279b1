# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence

import pytest

from tests.unit.callback.runs import Project, warm_ansible

MakeProject = Callable[..., Project]


@pytest.fixture(scope="session")
def ansible(tmp_path_factory: pytest.TempPathFactory) -> Iterator[subprocess.Popen[str]]:
    """Return a process from which runs of ansible-playbook are forked."""
    with warm_ansible(tmp_path_factory.mktemp("ansible")) as process:
        yield process


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory, ansible: subprocess.Popen[str]) -> MakeProject:
    """Return a function that creates a folder with a playbook."""

    def make(
        playbook: str, *, hosts: Sequence[str] = ("localhost",), roles: Mapping[str, str] | None = None
    ) -> Project:
        made = Project(tmp_path_factory.mktemp("play"), ansible)
        made.write(playbook, hosts=hosts, roles=roles or {})
        return made

    return make
