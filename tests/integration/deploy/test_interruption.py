# SPDX-License-Identifier: GPL-3.0-or-later
"""A first deployment that is killed at some moment: the next one ends healthy, and nothing is there twice."""

from __future__ import annotations

import pwd
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.processes import read_processes
from ansible_collections.crypto_lakehouse.platform.tests.integration.deploy.lakehouse import (
    AS_ROOT,
    Lakehouse,
    assert_whole,
    wait_for,
)

# How long a run may take to come to a moment.
REACH_LIMIT_S = 180.0
# Everything that a deployment makes beside what it downloads.
MADE = ("data", "etc", "log", "run", "secrets", ".crypto-lakehouse.json")


@dataclass(frozen=True)
class Moment:
    """A moment of a first deployment. `came` says that it has come; `whole` kills the modules that run as well."""

    name: str
    came: Callable[[Lakehouse], bool]
    whole: bool = True


def _exists(pattern: str) -> Callable[[Lakehouse], bool]:
    return lambda lakehouse: any(lakehouse.home.glob(pattern))


def _runs(*words: str) -> Callable[[Lakehouse], bool]:
    def came(lakehouse: Lakehouse) -> bool:
        every = (str(lakehouse.home), *words)
        commands = (" ".join(process.command) for process in read_processes().values())
        return any(all(word in command for word in every) for command in commands)

    return came


def _user_exists(lakehouse: Lakehouse) -> bool:
    return lakehouse.user in {entry.pw_name for entry in pwd.getpwall()}


# Before the first service runs, a run that is killed leaves nothing but files: these moments follow each other on one
# machine, and each run goes on from where the one before was killed.
EARLY = (
    *([Moment("user", _user_exists)] if AS_ROOT else []),
    Moment("folder", lambda lakehouse: lakehouse.home.exists()),
    Moment("Python packages", _exists("software/*/venv/lib/python*/site-packages/p*")),
    Moment("packages of the distribution", _exists("software/*/packages.partial/usr")),
    Moment("secrets", _exists("secrets/store.json")),
    Moment("configuration", _exists("etc/*/environment")),
)
# Each of these is killed on a machine without data.
LATE = (
    Moment("making the database", _exists("data/database/data/cluster.new/base")),
    Moment("starting the stores", _exists("run/database/socket/.s.PGSQL.*"), whole=False),
    Moment("buckets and tables", _runs("bootstrap", "--phase=storage")),
    Moment("starting the services", _exists("data/orchestrator/home/*"), whole=False),
    Moment("deployments of the flows", _runs("bootstrap", "--phase=orchestrator")),
)
MOMENTS = (*EARLY, *LATE)


def _interrupt(lakehouse: Lakehouse, moment: Moment) -> None:
    """Start a deployment and kill it as soon as the moment comes."""
    with lakehouse.start("deploy") as run:
        wait_for(
            lambda: moment.came(lakehouse) or run.process.poll() is not None, moment.name, REACH_LIMIT_S, poll_s=0.03
        )
        assert run.process.poll() is None, f"the run ended before {moment.name}: {run.output()}"
        if moment.whole:
            run.kill()
        else:
            run.kill_group()


def _recover(lakehouse: Lakehouse) -> object:
    """Deploy to the end and look at what there is."""
    lakehouse.deploy("--skip-tags", "verify").must_pass()
    assert_whole(lakehouse)
    wait_for(lambda: not lakehouse.unhealthy(), "everything is healthy", 30.0)
    again = lakehouse.run("plan").must_pass()
    assert again.changed == 0, again.output
    return lakehouse.census()


def _forget(lakehouse: Lakehouse) -> None:
    """Bring the machine back to before the first deployment, except for what was downloaded."""
    lakehouse.kill_everything()
    wait_for(lambda: not lakehouse.processes(), "nothing runs")
    for name in MADE:
        path = lakehouse.home / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _early(lakehouse: Lakehouse) -> dict[str, object]:
    for moment in EARLY:
        _interrupt(lakehouse, moment)
    found = _recover(lakehouse)
    lakehouse.destroy().must_pass()
    assert lakehouse.leftovers() == []
    return dict.fromkeys((moment.name for moment in EARLY), found)


def _late(lakehouse: Lakehouse, moments: tuple[Moment, ...]) -> dict[str, object]:
    found: dict[str, object] = {}
    for moment in moments:
        _interrupt(lakehouse, moment)
        found[moment.name] = _recover(lakehouse)
        _forget(lakehouse)
    return found


@pytest.fixture(scope="module")
def recovered(place: Callable[[], Lakehouse]) -> dict[str, object]:
    """What there is after each interrupted deployment and the one that followed. Two machines share the work."""
    first, second = place(), place()
    with ThreadPoolExecutor(1) as pool:
        half = pool.submit(lambda: {**_early(first), **_late(first, LATE[:1])})
        return {**_late(second, LATE[1:]), **half.result()}


@pytest.mark.parametrize("moment", [moment.name for moment in MOMENTS])
def test_after_an_interrupted_deployment_the_next_one_ends_healthy_with_nothing_twice(
    recovered: dict[str, object], described: object, moment: str
) -> None:
    assert recovered[moment] == described
