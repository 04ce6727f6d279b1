# SPDX-License-Identifier: GPL-3.0-or-later
"""Foreign resources of the services: their kinds, the rules of Prometheus, and their removal by the job."""

from __future__ import annotations

import json
import sys

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.filter.foreign_report import foreign_report
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.errors import HostError
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.shared.foreign import BEHAVIOUR
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.shared.foreign_kinds import (
    KINDS,
    RESTARTS,
    classified,
    foreign_rules,
)
from ansible_collections.crypto_lakehouse.platform.plugins.modules.host_foreign import remove

EVIL = {"kind": "role", "name": "evil", "detail": "logs in"}
REPORTS = {"kind": "database", "name": "reports", "detail": ""}


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown kind of foreign resources: 'other'"):
        classified([{"kind": "other", "name": "x"}])


def test_what_changes_behaviour_is_repaired_by_a_restart() -> None:
    assert set(RESTARTS) == {kind.name for kind in KINDS.values() if kind.foreign_class == BEHAVIOUR}


def test_the_filter_gives_lines_by_class() -> None:
    report = foreign_report([EVIL, REPORTS])
    assert report["grants"] == ["role/evil: logs in [lakehouse_remove_foreign: roles]"]
    assert report["added"] == ["database/reports"]
    assert foreign_report([EVIL], ["role/*"]) == {
        "grants": [],
        "behaviour": [],
        "added": [],
        "expected": ["role/evil: logs in [lakehouse_remove_foreign: roles]"],
    }


def test_rules_that_are_loaded_and_not_described_are_told_and_the_other_way_round() -> None:
    answer = {"data": {"groups": [{"file": "/etc/rules/a.yml"}, {"file": "/etc/rules/evil.yml"}]}}
    assert foreign_rules(answer, ["/etc/rules/a.yml", "/etc/rules/b.yml"]) == [
        {"kind": "prometheus-rules", "name": "etc/rules/evil.yml", "detail": "is loaded and not described"},
        {"kind": "prometheus-rules", "name": "etc/rules/b.yml", "detail": "is not loaded"},
    ]
    assert foreign_rules({"status": "error"}, ["/etc/rules/a.yml"]) == []


def job(document: object, status: int = 0, said: str = "") -> list[str]:
    code = f"import sys; print({json.dumps(document)!r}); print({said!r}, file=sys.stderr); sys.exit({status})"
    return [sys.executable, "-c", code]


def test_the_job_removes_what_it_is_asked_to_and_a_failure_is_told_without_its_document() -> None:
    removed = {"changed": [], "unchanged": 1, "foreign": [], "removed": [EVIL]}
    remove(job(removed), [EVIL], 60)
    with pytest.raises(HostError, match="cannot remove role evil: it is locked") as caught:
        remove(job(removed, 1, "cannot remove role evil: it is locked"), [EVIL], 60)
    assert "unchanged" not in str(caught.value)
    with pytest.raises(HostError, match=r"role/evil changed meanwhile; run it again"):
        remove(job({**removed, "removed": []}), [EVIL], 60)
