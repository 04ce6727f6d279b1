# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.errors import HostError
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.operate import Operator
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.services import Home, Wish
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.tree import LOCK_WAIT_S, locked


@pytest.mark.parametrize("verb", ["started", "stopped"])
def test_a_run_waits_for_the_module_of_a_killed_one_as_long_as_that_one_may_wait(tmp_path: Path, verb: str) -> None:
    operator = Operator(Home(tmp_path, tmp_path / "bin"), Wish(), wait_timeout_s=0.2)
    operator.home.run.mkdir()
    with (
        locked(operator.home.run),
        pytest.raises(HostError, match=r"has been changing it for 0\.2 s; wait"),
    ):
        getattr(operator, verb)(check_mode=False)


def test_services_are_given_longer_than_files() -> None:
    assert Operator(Home(Path("/srv"), Path("/srv/bin")), Wish()).wait_timeout_s > LOCK_WAIT_S
