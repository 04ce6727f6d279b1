# SPDX-License-Identifier: GPL-3.0-or-later
"""Health of resources that are not described."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.health import foreign
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.health.answers import NoAnswerError
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.health.checks import MalformedAnswerError
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.health.foreign import (
    judge_job,
    judge_logins,
    judge_software,
    read_job,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.health.report import DEGRADED, HEALTHY
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.installed import record
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.logins import Account

EVIL = {"kind": "role", "name": "evil", "detail": "logs in, superuser"}
REPORTS = {"kind": "database", "name": "reports", "detail": "owner postgres"}


def test_what_grants_access_is_degraded_and_names_what_removes_it() -> None:
    access, stores = judge_job({"changed": [], "foreign": [EVIL, REPORTS]}, [])
    assert (access.name, access.status) == ("description/role/evil", DEGRADED)
    assert "superuser" in access.detail
    assert "lakehouse_remove_foreign: [roles]" in access.remedy
    assert (stores.name, stores.status) == ("description/stores", HEALTHY)


def test_a_key_of_the_user_is_degraded_and_said_to_be_removed_by_hand() -> None:
    key = {"kind": "ssh-key", "name": "lake/SHA256:x", "detail": "alice"}
    access, _stores = judge_job({"changed": [], "foreign": [key]}, [])
    assert (access.status, access.remedy) == (DEGRADED, "remove it manually")


def test_logins_of_the_user_of_the_process_are_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    account = Account("lake", 1, tmp_path, tmp_path)
    monkeypatch.setattr(foreign, "own_account", lambda _home: account)
    (healthy,) = judge_logins(str(tmp_path), [])
    assert (healthy.name, healthy.status) == ("description/logins", HEALTHY)
    (tmp_path / ".rhosts").write_text("+ +\n")
    (found,) = judge_logins(str(tmp_path), [])
    assert (found.name, found.status) == ("description/login-file/lake/.rhosts", DEGRADED)
    assert judge_logins(str(tmp_path), ["login-file/*"])[0].status == HEALTHY


def test_what_is_expected_is_healthy() -> None:
    access, _stores = judge_job({"changed": [], "foreign": [EVIL]}, ["role/ev*"])
    assert (access.name, access.status) == ("description/access", HEALTHY)


def test_what_a_deployment_would_repair_is_degraded() -> None:
    changed = [f"role {number}: settings" for number in range(5)]
    pending = {"kind": "database-restart", "name": "max_connections", "detail": ""}
    stores = judge_job({"changed": changed, "foreign": [pending]}, [])[-1]
    assert stores.status == DEGRADED
    assert stores.detail == "differs: role 0: settings, role 1: settings, role 2: settings and 3 more"


@pytest.mark.parametrize("said", [{}, {"changed": [], "foreign": [{"kind": "other", "name": "x"}]}, {"foreign": [3]}])
def test_another_report_is_no_verdict(said: dict[str, object]) -> None:
    with pytest.raises(MalformedAnswerError):
        judge_job(said, [])


def test_a_job_that_reports_nothing_is_said_to_fail() -> None:
    with pytest.raises(NoAnswerError, match="status 3"):
        read_job([sys.executable, "-c", "raise SystemExit(3)"])
    with pytest.raises(NoAnswerError, match="cannot be run"):
        read_job(["/nonexistent/job"])
    said = read_job([sys.executable, "-c", 'print("noise"); print(\'{"changed": [], "foreign": []}\')'])
    assert said == {"changed": [], "foreign": []}


def test_edited_software_is_degraded(tmp_path: Path) -> None:
    (tmp_path / "venv").mkdir()
    (tmp_path / "venv/pyvenv.cfg").write_text("a")
    record(tmp_path)
    assert judge_software(str(tmp_path), {}).status == HEALTHY
    (tmp_path / "venv/pyvenv.cfg").write_text("b b")
    found = judge_software(str(tmp_path), {})
    assert (found.status, found.detail) == (DEGRADED, "differs: venv/pyvenv.cfg differs")
