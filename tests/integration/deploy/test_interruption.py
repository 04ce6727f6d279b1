# SPDX-License-Identifier: GPL-3.0-or-later
"""A first deployment is killed at some moment: the next one ends healthy, and no object exists twice."""

from __future__ import annotations

import ctypes
import os
import pwd
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.processes import read_processes
from ansible_collections.crypto_lakehouse.platform.tests.integration.deploy.lakehouse import (
    AS_ROOT,
    Lakehouse,
    assert_whole,
    lakehouses,
    wait_for_health,
)
from tests.integration.patience import HANG_S, wait_for
from tests.sweep import choose

# All objects of a deployment, except its downloads and the record of the folder's owner.
MADE = ("data", "etc", "inventory", "log", "run", "secrets")


@dataclass(frozen=True)
class Moment:
    """A moment of a first deployment. `came` returns whether it has come; `whole` kills running modules as well."""

    name: str
    came: Callable[[Lakehouse], bool]
    whole: bool = True
    # Reading all processes takes a part of a core; the expected jobs take seconds.
    poll_s: float = 0.05


def _exists(*patterns: str) -> Callable[[Lakehouse], bool]:
    """Return a function that checks for files of any pattern.

    A temporary file is listed with its successor, so that it cannot be missed.
    """
    return lambda lakehouse: any(path for pattern in patterns for path in lakehouse.home.glob(pattern))


def _runs(*words: str) -> Callable[[Lakehouse], bool]:
    def came(lakehouse: Lakehouse) -> bool:
        every = (str(lakehouse.home), *words)
        commands = (" ".join(process.command) for process in read_processes().values())
        return any(all(word in command for word in every) for command in commands)

    return came


def _user_exists(lakehouse: Lakehouse) -> bool:
    return lakehouse.user in {entry.pw_name for entry in pwd.getpwall()}


# Before the first service runs, a killed run leaves files only.
EARLY = (
    *([Moment("user", _user_exists)] if AS_ROOT else []),
    Moment("folder", lambda lakehouse: lakehouse.home.exists()),
    Moment("Python packages", _exists("software/*/venv/lib/python*/site-packages/p*")),
    Moment("packages of the distribution", _exists("software/*/packages.partial/usr", "software/*/packages/usr")),
    Moment("secrets", _exists("secrets/store.json")),
    Moment("configuration", _exists("etc/*/environment")),
)
# From here on a killed run leaves running services.
LATE = (
    Moment("making the database", _exists("data/database/data/cluster.new/base", "data/database/data/cluster/base")),
    Moment("starting the stores", _exists("run/database/socket/.s.PGSQL.*"), whole=False),
    Moment("buckets and tables", _runs("bootstrap", "--phase=storage"), poll_s=0.3),
    Moment("starting the services", _exists("data/orchestrator/home/*"), whole=False),
    Moment("deployments of the flows", _runs("bootstrap", "--phase=orchestrator"), poll_s=0.3),
)
MOMENTS = (*EARLY, *LATE)


def _interrupt(lakehouse: Lakehouse, moment: Moment) -> None:
    """Start a deployment and kill it at the moment."""
    with lakehouse.start("deploy") as run:
        # The run ends by itself, or hangs.
        wait_for(
            lambda: moment.came(lakehouse) or run.process.poll() is not None, moment.name, HANG_S, poll_s=moment.poll_s
        )
        assert run.process.poll() is None, f"the run ended before {moment.name}: {run.output()}"
        if moment.whole:
            run.kill()
        else:
            run.kill_group()


def _recover(lakehouse: Lakehouse) -> object:
    """Complete the deployment and return the result."""
    lakehouse.deploy("--skip-tags", "verify").must_pass()
    assert_whole(lakehouse)
    wait_for_health(lakehouse)
    again = lakehouse.run("plan").must_pass()
    assert again.changed == 0, again.output
    return lakehouse.census()


def _forget(lakehouse: Lakehouse) -> None:
    """Restore the state before the first deployment, except for downloads."""
    lakehouse.kill_everything()
    wait_for(lambda: not lakehouse.processes(), "nothing runs")
    for name in MADE:
        path = lakehouse.home / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _undisturbed(lakehouse: Lakehouse) -> object:
    """Complete the deployment and return the result."""
    lakehouse.deploy("--skip-tags", "verify").must_pass()
    return lakehouse.census()


def _lose_shadow_entry(user: str) -> None:
    """Leave the account like a `useradd` that is killed between its two files."""
    libc, shadow = ctypes.CDLL(None), Path("/etc/shadow")
    assert libc.lckpwdf() == 0, "no lock of /etc/shadow"
    try:
        new = shadow.with_name(f"shadow.{user}")
        lines = shadow.read_text("utf-8").splitlines(keepends=True)
        shutil.copy2(shadow, new)
        os.chown(new, shadow.stat().st_uid, shadow.stat().st_gid)
        new.write_text("".join(line for line in lines if not line.startswith(f"{user}:")), "utf-8")
        new.replace(shadow)
    finally:
        libc.ulckpwdf()


def _in_a_row(lakehouse: Lakehouse) -> object:
    """Interrupt at every moment: each run continues after the previous killed one."""
    for moment in MOMENTS:
        _interrupt(lakehouse, moment)
        if moment.name == "user":
            _lose_shadow_entry(lakehouse.user)
    return _recover(lakehouse)


def _alone(lakehouse: Lakehouse) -> dict[str, object]:
    """Interrupt at late moments, each on a machine without data. A sweep takes all of them."""
    found = {}
    for moment in choose(LATE, 1):
        _forget(lakehouse)
        _interrupt(lakehouse, moment)
        found[moment.name] = _recover(lakehouse)
    return found


@dataclass(frozen=True)
class Recovered:
    """State after consecutive interrupted deployments, after an undisturbed one, and after each single interruption."""

    in_a_row: object
    undisturbed: object
    alone: dict[str, object]


@pytest.fixture(scope="module")
def recovered() -> Iterator[Recovered]:
    """Return interrupted and undisturbed deployments on one machine, which is installed once and may be destroyed."""
    with lakehouses() as place:
        lakehouse = place()
        in_a_row = _in_a_row(lakehouse)
        _forget(lakehouse)
        undisturbed = _undisturbed(lakehouse)
        alone = _alone(lakehouse)
        lakehouse.destroy().must_pass()
        assert lakehouse.leftovers() == []
        yield Recovered(in_a_row, undisturbed, alone)


@pytest.mark.parametrize("moment", [moment.name for moment in MOMENTS])
def test_deployments_interrupted_one_after_the_other_end_healthy_with_nothing_twice(
    recovered: Recovered, moment: str
) -> None:
    assert recovered.in_a_row == recovered.undisturbed, moment


@pytest.mark.parametrize("moment", [moment.name for moment in choose(LATE, 1)])
def test_after_an_interrupted_deployment_the_next_one_ends_healthy_with_nothing_twice(
    recovered: Recovered, moment: str
) -> None:
    assert recovered.alone[moment] == recovered.undisturbed
