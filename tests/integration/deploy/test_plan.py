# SPDX-License-Identifier: GPL-3.0-or-later
"""Read-only runs: they change nothing, and predict the changes of a deployment."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.tests.integration.deploy.lakehouse import (
    AS_ROOT,
    PROGRAMS,
    Lakehouse,
    Run,
    assert_whole,
)

First = tuple[Lakehouse, dict[str, Run]]


@pytest.mark.parametrize("look", ["check", "plan"])
def test_a_look_at_an_empty_machine_names_every_file_that_a_deployment_then_writes(
    first_deployment: First, look: str
) -> None:
    lakehouse, runs = first_deployment
    written = {str(path) for path in (lakehouse.home / "etc").rglob("*") if path.is_file()}
    announced = runs[look].written
    assert written <= announced
    # The difference of the store of secrets shows names.
    assert {path for path in announced if not Path(path.removesuffix(" (names only)")).exists()} == set()


@pytest.mark.parametrize("look", ["check", "plan"])
def test_a_look_at_an_empty_machine_names_user_software_and_programs(first_deployment: First, look: str) -> None:
    lakehouse, runs = first_deployment
    output = runs[look].output
    assert f"Software {lakehouse.marker['software']} will be installed" in output
    assert not AS_ROOT or "Make the service user" in output
    assert {name for name in PROGRAMS if f"+{name}: started" in output} == PROGRAMS


def test_a_look_announces_each_change_that_the_deployment_then_makes(first_deployment: First) -> None:
    lakehouse, runs = first_deployment
    announced = _lines(runs["plan"])
    assert {f"program {name}" for name in PROGRAMS} <= announced
    made = {str(path) for part in ("etc", "secrets") for path in (lakehouse.home / part).rglob("*")}
    # The digest of the sources of files with secrets is not a part of the description.
    assert made - announced <= {f"{lakehouse.home}/secrets/descriptions.json"}
    assert all(Path(line).exists() for line in announced if line.startswith(f"{lakehouse.home}/"))
    assert runs["check"].changed == runs["plan"].changed > 0


def test_a_deployment_ends_with_the_addresses_the_health_and_the_next_command(first_deployment: First) -> None:
    lakehouse, runs = first_deployment
    output = runs["deploy"].output
    assert lakehouse.url(8080) in output
    assert re.search(r"\d+ checks: .*healthy", output)
    assert "unhealthy" not in output
    assert "Next: playbooks/health.yml (make health)" in output


def test_a_second_deployment_changes_nothing(lakehouse: Lakehouse) -> None:
    before = {name: state.pid for name, state in lakehouse.states().items()}
    run = lakehouse.deploy().must_pass()
    assert run.changed == 0, run.output
    # The first one has passed the contract.
    assert "gold through API" in run.output
    assert "flow run through every tier" not in run.output
    assert {name: state.pid for name, state in lakehouse.states().items()} == before


@dataclass(frozen=True)
class Edit:
    """A manual change, its name in a read-only run, and the proof that a deployment has repaired it.

    undo: manual actions before a deployment can continue.
    """

    make: Callable[[Lakehouse], object]
    changes: Callable[[Lakehouse], set[str]]
    repaired: Callable[[Lakehouse], bool]
    undo: Callable[[Lakehouse], object] = str


def _edit_a_rule(lakehouse: Lakehouse) -> None:
    path = lakehouse.home / "etc/prometheus/rules/lakehouse.yml"
    path.write_text(f"{path.read_text()}# by hand\n")


def _stop_a_program(lakehouse: Lakehouse) -> None:
    configuration = str(lakehouse.home / "run/supervisor/supervisord.conf")
    control = [str(lakehouse.programs / "supervisorctl"), "-c", configuration]
    lakehouse.as_service_user([*control, "stop", "node-exporter:*"])


def _file(path: str) -> Callable[[Lakehouse], Path]:
    return lambda lakehouse: lakehouse.home / path


def _names(*changes: str) -> Callable[[Lakehouse], set[str]]:
    """Return the names in a run's report; a path is one below the home."""
    return lambda lakehouse: {
        str(lakehouse.home / change) if change.startswith(("etc/", "secrets/", "data/", "run/")) else change
        for change in changes
    }


def _does(statement: str) -> Callable[[Lakehouse], object]:
    return lambda lakehouse: lakehouse.application(f"{statement}\nshow(None)")


def _says(expression: str) -> Callable[[Lakehouse], bool]:
    return lambda lakehouse: bool(lakehouse.application(f"show(bool({expression}))"))


def _publish(lakehouse: Lakehouse) -> None:
    statement = {
        "Effect": "Allow",
        "Principal": "*",
        "Action": ["s3:GetObject"],
        "Resource": [f"arn:aws:s3:::{BRONZE}/*"],
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    lakehouse.application(
        f"s3.put_object(Bucket={BRONZE!r}, Key='probe', Body=b'x')\n"
        f"show(s3.put_bucket_policy(Bucket={BRONZE!r}, Policy={policy!r}) and None)"
    )
    assert _anonymous_status(lakehouse) == HTTPStatus.OK


def _anonymous_status(lakehouse: Lakehouse) -> int:
    """Return the status of a request for an object of bronze without an account."""
    connection = http.client.HTTPConnection("127.0.0.1", 8333 + lakehouse.port_offset, timeout=60)
    with contextlib.closing(connection):
        connection.request("GET", f"/{BRONZE}/probe")
        return connection.getresponse().status


def _authorize(lakehouse: Lakehouse) -> None:
    _KEYS_OF_SSH(lakehouse).parent.mkdir()
    _KEYS_OF_SSH(lakehouse).write_text(f"ssh-ed25519 {SSH_KEY} alice\n")


def _blocked(lakehouse: Lakehouse) -> set[str]:
    path, user = _BLOCKED(lakehouse), lakehouse.user
    remedy = f"run as its owner, or give it back: chown -R {user} {path}"
    return {f"{path}: belongs to root, not to {user}; {remedy}", "program node-exporter"}


SSH_KEY = "AAAAC3NzaC1lZDI1NTE5AAAAIBy/ehnYp+j+smaAF5aR3ZgHspHEDc1rZRbxCQtOEBNz"
FINGERPRINT = "SHA256:pqwFgFW9CnVM/NFkzwSJBsdX4ehcVpRYUO6nMJ70X9M"
BRONZE = "crypto-lakehouse-bronze-development"
_EXTRA_PROGRAM = _file("run/supervisor/programs/extra.conf")
_GIVEN_PROGRAM = _file("run/supervisor/programs/alertmanager.conf")
_DOTENV = _file("data/orchestrator/.env")
_KEYS_OF_SSH = _file(".ssh/authorized_keys")
_PAGE = _file("data/orchestrator/home/pages/v2/index.html")
_BLOCKED = _file("etc/node-exporter/web.yml")
_MAY_LOG_IN = '_rows("SELECT rolname FROM pg_roles WHERE rolcanlogin OR rolsuper")'
_KEYS = _file("etc/object-store/s3.json")
_RULES = _file("etc/prometheus/rules/lakehouse.yml")
_PASSWORD = _file("secrets/prometheus/alertmanager_password")
_STORE = _file("secrets/store.json")
_PAUSED = "next(each for each in deployments() if each['entrypoint'].endswith('.aggregate'))"
_GOLD = "tableBucketARN=arn_of(settings.gold_warehouse.removeprefix('s3://'))"

EDITS = {
    "text of a file": Edit(
        _edit_a_rule,
        _names("etc/prometheus/rules/lakehouse.yml", "program prometheus"),
        lambda lakehouse: "by hand" not in _RULES(lakehouse).read_text(),
    ),
    "mode of a file": Edit(
        lambda lakehouse: _KEYS(lakehouse).chmod(0o644),
        _names("etc/object-store/s3.json"),
        lambda lakehouse: _KEYS(lakehouse).stat().st_mode & 0o777 == 0o600,
    ),
    "mode of the store of secrets": Edit(
        lambda lakehouse: _STORE(lakehouse).chmod(0o640),
        _names("secrets/store.json"),
        lambda lakehouse: _STORE(lakehouse).stat().st_mode & 0o777 == 0o600,
    ),
    "removed file of a secret": Edit(
        lambda lakehouse: _PASSWORD(lakehouse).unlink(),
        _names("secrets/prometheus/alertmanager_password", "program prometheus"),
        lambda lakehouse: _PASSWORD(lakehouse).read_text() == lakehouse.secrets["alertmanager_password"],
    ),
    "file that is not described": Edit(
        lambda lakehouse: (lakehouse.home / "etc/api/extra").write_text("by hand"),
        _names("etc/api/extra"),
        lambda lakehouse: not (lakehouse.home / "etc/api/extra").exists(),
    ),
    "stopped program": Edit(
        _stop_a_program,
        _names("program node-exporter"),
        lambda lakehouse: lakehouse.states()["node-exporter"].state == "RUNNING",
    ),
    "deleted lifecycle": Edit(
        _does("s3.delete_bucket_lifecycle(Bucket=settings.silver_bucket)"),
        _names("bucket crypto-lakehouse-silver-development: lifecycle"),
        _says("s3.get_bucket_lifecycle_configuration(Bucket=settings.silver_bucket)['Rules']"),
    ),
    "deleted access policy of tables": Edit(
        _does(f"s3tables.delete_table_bucket_policy({_GOLD})"),
        _names("table bucket crypto-lakehouse-gold-tables-development: policy"),
        _says(f"s3tables.get_table_bucket_policy({_GOLD})['resourcePolicy']"),
    ),
    "file that a program would read": Edit(
        lambda lakehouse: _DOTENV(lakehouse).write_text("PREFECT_LOGGING_LEVEL=DEBUG\n"),
        _names("data/orchestrator/.env"),
        lambda lakehouse: not _DOTENV(lakehouse).exists(),
    ),
    "file that a shell would read": Edit(
        lambda lakehouse: (lakehouse.home / ".bashrc").write_text("exec /bin/true\n"),
        lambda lakehouse: {str(lakehouse.home / ".bashrc")},
        lambda lakehouse: not (lakehouse.home / ".bashrc").exists(),
    ),
    "program file that supervisord reads": Edit(
        lambda lakehouse: _GIVEN_PROGRAM(lakehouse).write_text(f"{_GIVEN_PROGRAM(lakehouse).read_text()}umask=000\n"),
        _names("program alertmanager", "run/supervisor/programs/alertmanager.conf"),
        lambda lakehouse: "umask" not in _GIVEN_PROGRAM(lakehouse).read_text(),
    ),
    "program that is not described": Edit(
        lambda lakehouse: _EXTRA_PROGRAM(lakehouse).write_text("[program:extra]\ncommand=/bin/sleep 9\n"),
        _names("program extra"),
        lambda lakehouse: not _EXTRA_PROGRAM(lakehouse).exists(),
    ),
    "limits of a role": Edit(
        _does("database('ALTER ROLE lakehouse CONNECTION LIMIT 90')"),
        _names("role lakehouse: connection limit"),
        _says("_rows(\"SELECT rolconnlimit FROM pg_roles WHERE rolname = 'lakehouse'\") == ['-1']"),
    ),
    "settings of a role and of the server": Edit(
        _does(
            "database(\"ALTER ROLE orchestrator SET work_mem = '5MB'\")\ndatabase('ALTER SYSTEM SET work_mem = 5000')"
        ),
        _names("role orchestrator: settings (work_mem)", "database server: settings (work_mem)"),
        _says("_rows('SELECT setrole FROM pg_db_role_setting') == [] and _rows('SHOW work_mem') != ['5000kB']"),
    ),
    "job template of the work pool": Edit(
        _does(
            "pool = prefect.find('work_pools/lakehouse')\n"
            "pool['base_job_template']['job_configuration']['command'] = 'true'\n"
            "prefect.patch('work_pools/lakehouse', {'base_job_template': pool['base_job_template']})"
        ),
        _names("work pool lakehouse: base_job_template"),
        _says("'true' not in prefect.find('work_pools/lakehouse')['base_job_template']['job_configuration'].values()"),
    ),
    "public bucket policy": Edit(
        _publish,
        _names(f"bucket-policy/{BRONZE}: Allow everybody: s3:GetObject [lakehouse_remove_foreign: policies]"),
        lambda lakehouse: _anonymous_status(lakehouse) == HTTPStatus.FORBIDDEN,
    ),
    "identity of the object store": Edit(
        _does("identities('s3.configure -user=evil -access_key=EVIL -secret_key=of-the-test -actions=Admin -apply')"),
        _names("s3-identity/evil: Admin [lakehouse_remove_foreign: identities]"),
        _says("'EVIL' not in [each['accessKey'] for each in keys_of('evil')]"),
    ),
    "superuser": Edit(
        _does("database(\"CREATE ROLE evil SUPERUSER LOGIN\")\ndatabase('GRANT lakehouse TO evil')"),
        _names(
            "role/evil: logs in, superuser [lakehouse_remove_foreign: roles]",
            "role-membership/lakehouse/evil: evil has the privileges of lakehouse [lakehouse_remove_foreign: bindings]",
        ),
        _says(f"'evil' not in {_MAY_LOG_IN}"),
    ),
    "page of the orchestrator": Edit(
        lambda lakehouse: _PAGE(lakehouse).write_text("<script src=//evil.example></script>"),
        _names("pages of the orchestrator: v2/index.html differs"),
        lambda lakehouse: "evil" not in _PAGE(lakehouse).read_text(),
    ),
    "suspended deployment": Edit(
        _does(f"prefect.patch('deployments/' + {_PAUSED}['id'], {{'paused': True}})"),
        _names("deployment aggregate/lakehouse: paused"),
        _says(f"not {_PAUSED}['paused']"),
    ),
}

if AS_ROOT:
    EDITS["file that a deployment may not change"] = Edit(
        lambda lakehouse: os.chown(_BLOCKED(lakehouse), 0, 0),
        _blocked,
        lambda lakehouse: _BLOCKED(lakehouse).owner() == lakehouse.user,
        undo=lambda lakehouse: shutil.chown(_BLOCKED(lakehouse), lakehouse.user, lakehouse.user),
    )

    EDITS["key of ssh"] = Edit(
        _authorize,
        lambda lakehouse: {
            f"ssh-key/{lakehouse.user}/{FINGERPRINT}: alice in {_KEYS_OF_SSH(lakehouse)} [remove it manually]"
        },
        lambda lakehouse: not _KEYS_OF_SSH(lakehouse).exists(),
        undo=lambda lakehouse: shutil.rmtree(_KEYS_OF_SSH(lakehouse).parent),
    )


GRANTING = ("public bucket policy", "identity of the object store", "superuser")


@dataclass(frozen=True)
class Edited:
    """The result of each run after all edits, and the processes before and after the repair."""

    lakehouse: Lakehouse
    runs: dict[str, Run]
    pids_before: dict[str, int]
    pids_after: dict[str, int]


@pytest.fixture(scope="module")
def edited(first_deployment: First) -> Edited:
    lakehouse = first_deployment[0]
    assert_whole(lakehouse)
    before = {name: state.pid for name, state in lakehouse.states().items()}
    for edit in EDITS.values():
        edit.make(lakehouse)
    lakehouse.application("database('CREATE DATABASE users_own')\ns3.create_bucket(Bucket='users-own')\nshow(None)")
    remove: dict[str, Any] = {"lakehouse_remove_foreign": ["policies", "identities", "roles", "bindings"]}
    runs = {
        "check": lakehouse.deploy("--check", "--diff", **remove).must_pass(),
        "plan": lakehouse.run("plan").must_pass(),
        "drift": lakehouse.run("drift").must_fail(),
    }
    for edit in EDITS.values():
        edit.undo(lakehouse)
    runs["deploy"] = lakehouse.deploy("--diff", **remove).must_pass()
    runs["after"] = lakehouse.run("drift").must_pass()
    return Edited(lakehouse, runs, before, {name: state.pid for name, state in lakehouse.states().items()})


def _lines(run: Run) -> set[str]:
    return {line.strip() for line in run.output.splitlines()}


@pytest.mark.parametrize("name", EDITS)
def test_plan_and_drift_name_what_was_edited_and_a_deployment_repairs_it(edited: Edited, name: str) -> None:
    edit = EDITS[name]
    changes = edit.changes(edited.lakehouse)
    assert changes <= _lines(edited.runs["plan"])
    assert changes <= _lines(edited.runs["drift"])
    assert edit.repaired(edited.lakehouse)


def test_looks_at_a_deployed_lakehouse_show_no_change(edited: Edited) -> None:
    check = edited.lakehouse.deploy("--check", "--diff").must_pass()
    assert (check.changed, check.written) == (0, set()), check.output
    plan = edited.lakehouse.run("plan").must_pass()
    assert plan.changed == 0
    assert "Nothing: the machine is as described." in plan.output
    assert "The machine is as described" in edited.runs["after"].output


def test_a_check_shows_the_difference_of_what_was_edited_and_of_nothing_else(edited: Edited) -> None:
    shown = {path.removesuffix(" (mode)") for path in edited.runs["check"].written}
    home = edited.lakehouse.home
    assert "-# by hand" in _lines(edited.runs["check"])
    assert shown - {f"{home}/secrets/store.json (names only)", str(_BLOCKED(edited.lakehouse))} == {
        f"{home}/etc/prometheus/rules/lakehouse.yml",
        f"{home}/etc/object-store/s3.json",
        f"{home}/etc/api/extra",
        f"{home}/data/orchestrator/.env",
        f"{home}/.bashrc",
    }
    assert {"bucket crypto-lakehouse-silver-development: lifecycle"} <= _lines(edited.runs["check"])


def test_drift_names_nothing_that_was_not_edited(edited: Edited) -> None:
    every = set().union(*(edit.changes(edited.lakehouse) for edit in EDITS.values()))
    told = edited.runs["drift"].output.partition("The machine is not as described:")[2].partition("Remedy:")[0]
    assert {line.strip() for line in told.splitlines() if line.strip()} == every


def test_what_grants_access_is_removed_only_when_it_is_asked_for(edited: Edited) -> None:
    removed = {f"-{change}".partition(" [")[0] for name in GRANTING for change in EDITS[name].changes(edited.lakehouse)}
    for run in ("check", "deploy"):
        assert removed <= _lines(edited.runs[run])
    for run in ("plan", "drift"):
        assert not removed & _lines(edited.runs[run])
    assert "lakehouse_expected_foreign" in edited.runs["drift"].output


def test_what_users_added_is_listed_and_kept(edited: Edited) -> None:
    for run in ("drift", "after"):
        output = edited.runs[run].output
        assert all(f"{added}" in output for added in ("bucket/users-own", "database/users_own")), output
    census = edited.lakehouse.census()
    assert "users-own" in census["buckets"]
    assert "users_own" in census["databases"]
    assert "evil" in census["roles"], "a role may own data"


def test_a_repair_restarts_only_what_reads_an_edited_file(edited: Edited) -> None:
    restarted = {name for name, pid in edited.pids_after.items() if pid != edited.pids_before[name]}
    assert restarted == {"prometheus", "node-exporter", "alertmanager"}
