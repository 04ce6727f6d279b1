# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pytest

from tests.unit.callback.runs import Project

MakeProject = Callable[..., Project]


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> MakeProject:
    """Return a function that makes a folder with a playbook."""

    def make(
        playbook: str, *, hosts: Sequence[str] = ("localhost",), roles: Mapping[str, str] | None = None
    ) -> Project:
        made = Project(tmp_path_factory.mktemp("play"))
        made.write(playbook, hosts=hosts, roles=roles or {})
        return made

    return make
