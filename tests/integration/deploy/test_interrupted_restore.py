# SPDX-License-Identifier: GPL-3.0-or-later
"""A restore is interrupted: health names it with a remedy, and the remedy makes the lakehouse whole."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.jobs import Jobs
from ansible_collections.crypto_lakehouse.platform.tests.integration.deploy.lakehouse import (
    Lakehouse,
    Run,
    Started,
    assert_whole,
    wait_for_health,
)
from tests.integration.deploy.test_backup import DAMAGE, TAKEN, content_of, metric
from tests.integration.patience import wait_for
from tests.sweep import choose

PHASES = ("lake", "database", "runs")
OPTION = re.compile(r"-e (lakehouse_\w+=[\w.,-]+)")


@pytest.fixture(scope="module")
def taken(deployed: tuple[Lakehouse, Run]) -> tuple[str, dict[str, Any]]:
    """Return the id of a set, and what the lakehouse held when it was taken."""
    lakehouse = deployed[0]
    # The service takes the first set by itself, and only one run at a time may store a set.
    wait_for(lambda: metric(lakehouse, "lakehouse_backup_sets") >= 1, "the first set of the service", 120.0, poll_s=1.0)
    content = content_of(lakehouse)
    (set_id,) = TAKEN.findall(lakehouse.run("backup_create").must_pass().words)
    return set_id, content


def incomplete(lakehouse: Lakehouse) -> list[dict[str, Any]]:
    try:
        found: list[dict[str, Any]] = json.loads((lakehouse.home / "data/database/data/restore.json").read_text())[
            "incomplete"
        ]
    except FileNotFoundError:
        return []
    return found


def interrupt(lakehouse: Lakehouse, set_id: str, phase: str) -> None:
    """Kill a restore in a phase: the controller alone while the database is recovered, else the machine."""

    def is_there(started: Started) -> bool:
        return started.process.poll() is not None or any(each["left"][0] == phase for each in incomplete(lakehouse))

    given: dict[str, Any] = {
        "lakehouse_backup_set": set_id,
        "lakehouse_restore_overwrite": True,
        "lakehouse_backup_before": False,
    }
    with lakehouse.start("backup_restore", **given) as started:
        wait_for(lambda: is_there(started), f"the phase {phase}", 600.0, poll_s=0.05)
        started.kill()
        output = started.output()
    if phase != "database":
        lakehouse.kill_everything()
    assert incomplete(lakehouse), output[-12000:]


def carry_out(lakehouse: Lakehouse, words: str) -> Run:
    """Do what health recommends, its first command."""
    if "Next: run playbooks/deploy.yml" in words:
        return lakehouse.deploy("--skip-tags", "verify")
    wait_for(lambda: not Jobs(lakehouse.home).going(), "the end of the job of the killed controller", 600.0)
    options = [word for option in OPTION.findall(words) for word in ("-e", option)]
    return lakehouse.run("backup_restore", "--skip-tags", "verify", *options)


@pytest.mark.parametrize("phase", choose(PHASES, 1))
def test_health_names_a_restore_that_was_interrupted_and_its_remedy_completes_it(
    lakehouse: Lakehouse, taken: tuple[str, dict[str, Any]], phase: str
) -> None:
    set_id, content = taken
    lakehouse.application(DAMAGE, service="worker")
    interrupt(lakehouse, set_id, phase)
    health = lakehouse.run("health").must_fail()
    (entry,) = incomplete(lakehouse)
    assert (
        f"data/restore: restore of set {set_id}, begun at {entry['began_at']}, did not end; missing: " in health.words
    )
    # The job of a killed controller goes on, so that the record may have changed since.
    carry_out(lakehouse, health.words).must_pass()
    wait_for_health(lakehouse, wait_s=60.0)
    assert incomplete(lakehouse) == []
    assert_whole(lakehouse)
    restored = content_of(lakehouse)
    for part in ("tables", "uuids", "raw"):
        assert restored[part] == content[part], part
    assert set(content["runs"]) <= set(restored["runs"])
