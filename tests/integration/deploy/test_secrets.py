# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets do not appear outside of their files, and all of them can be replaced."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import pwd
import subprocess
from functools import partial
from pathlib import Path
from urllib.parse import quote

import pytest

from ansible_collections.crypto_lakehouse.platform.tests.integration.deploy.lakehouse import (
    AS_ROOT,
    Lakehouse,
    assert_whole,
    wait_for_health,
)
from tests.integration.patience import wait_for

# Characters that every encoding changes.
GIVEN = {
    "api_token": "given/token+with~marks-and.dots==",
    "orchestrator_password": "given:password/with%signs and$dollars",
    "database_lakehouse_password": "given@database:password/with?signs#and'quotes",
    "alertmanager_slack_webhook_url": "https://hooks.example.org/services/given-T0/given-B0/given-X0",
}
# The highest verbosity of Ansible.
LOUD = ("-vvv", "--diff")
SYSTEM_LOGS = ("/var/log/syslog", "/var/log/messages", "/var/log/user.log", "/var/log/auth.log")


def encodings(values: set[str]) -> set[str]:
    """Return each value in plain text, in an address, and in JSON."""
    return {form for value in values for form in (value, quote(value, safe=""), json.dumps(value)[1:-1])}


def lines_of(values: set[str]) -> set[str]:
    """Return the values by line: a single line identifies a key or a certificate."""
    return {line for value in values for line in value.splitlines() if not line.startswith("-----")}


def files_with(patterns: set[str], *places: Path, but_for: frozenset[str] = frozenset()) -> list[str]:
    """Return the files that contain one of the patterns, of a key or a certificate one of its lines.

    grep reads the patterns from standard input. Lines of `but_for` do not count: two certificates of one name share
    some.
    """
    there = [str(place) for place in places if place.exists()]
    lines = lines_of(patterns) - lines_of(set(but_for))
    command = ["grep", "-rlF", "--binary-files=text", "-f", "-", *there]
    done = subprocess.run(command, input="\n".join(lines), capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    return done.stdout.splitlines()


class CommandLines:
    """Every command line of the machine while a playbook runs."""

    def __init__(self) -> None:
        self.seen: set[bytes] = set()

    def watch(self) -> None:
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                self.seen.add(path.read_bytes())


def as_an_earlier_version_wrote_it(store: Path, former: str) -> None:
    """Write former values to the store, in the format of earlier versions."""
    document = json.loads(store.read_text())
    for entry in document["secrets"].values():
        entry["previous"] = [former]
    owner = store.stat()
    store.write_text(json.dumps(document))
    os.chown(store, owner.st_uid, owner.st_gid)


def answer_of_the_api(lakehouse: Lakehouse, token: str) -> int:
    """Return the status of a query with this token."""
    connection = http.client.HTTPConnection("127.0.0.1", 8080 + lakehouse.port_offset, timeout=30)
    with contextlib.closing(connection):
        query = json.dumps({"sql": "SELECT count(*) AS days FROM gold.ohlcv_daily"})
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        connection.request("POST", "/v1/query", query, headers)
        return connection.getresponse().status


def test_a_rotation_with_given_secrets_replaces_every_generated_one_and_shows_none(
    lakehouse: Lakehouse, tmp_path: Path
) -> None:
    before, kept_once = lakehouse.secrets, "a-former-value-of-an-earlier-version"
    as_an_earlier_version_wrote_it(lakehouse.home / "secrets/store.json", kept_once)
    log, commands = tmp_path / "ansible.log", CommandLines()
    variables = {"ANSIBLE_INJECT_INVOCATION": "1", "ANSIBLE_LOG_PATH": str(log)}
    run = lakehouse.run(
        "deploy",
        *LOUD,
        environment=variables,
        watch=commands.watch,
        lakehouse_rotate_secrets=True,
        lakehouse_secrets=GIVEN,
    ).must_pass()
    after = lakehouse.secrets
    assert {name: after[name] for name in GIVEN} == GIVEN
    assert [name for name in before if after[name] == before[name]] == []
    assert_whole(lakehouse)
    wait_for_health(lakehouse)

    former = encodings({kept_once, *before.values()} - {*after.values()})
    places, current = [lakehouse.home / name for name in ("secrets", "etc")], frozenset(after.values())
    assert files_with(former, *places, but_for=current) == []
    values = encodings({*before.values(), *after.values()}) | former
    assert "CHANGED" in run.output.upper()
    assert [value for value in values if value in run.output] == []
    assert [value for value in values if value in log.read_text()] == []
    assert [value for value in values if any(value.encode() in line for line in commands.seen)] == []
    elsewhere = [lakehouse.home / name for name in ("data", "log", "run", ".crypto-lakehouse.json")]
    # The store logs the access key of a rejected request: a name, which every request sends in plain text. A service
    # that restarts after the store may send one.
    names = encodings({found[name] for found in (before, after) for name in found if name.endswith("_access_key")})
    assert files_with(values - names, *elsewhere, *map(Path, SYSTEM_LOGS)) == []

    assert answer_of_the_api(lakehouse, before["api_token"]) == 401
    # Values removed from the inventory are kept.
    lakehouse.deploy("--skip-tags", "verify").must_pass()
    kept = {name: value for name, value in GIVEN.items() if name != "alertmanager_slack_webhook_url"}
    assert {name: lakehouse.secrets[name] for name in kept} == kept
    assert answer_of_the_api(lakehouse, kept["api_token"]) == 200


def test_files_that_hold_secrets_are_closed_to_everybody_but_the_services(lakehouse: Lakehouse) -> None:
    owner = pwd.getpwnam(lakehouse.user).pw_uid if AS_ROOT else os.geteuid()
    paths = [path for part in ("secrets", "etc") for path in (lakehouse.home / part).rglob("*")]
    found = {str(path) for path in paths if path.is_file()}
    assert set(files_with(encodings(set(lakehouse.secrets.values())), lakehouse.home / "secrets")) <= found
    assert [path for path in paths if path.stat().st_uid != owner] == []
    assert [path for path in paths if path.stat().st_mode & 0o777 != (0o700 if path.is_dir() else 0o600)] == []


def test_a_rotation_that_is_killed_is_completed_by_the_next_deployment(lakehouse: Lakehouse) -> None:
    moments = {
        "the store is written": "secrets/store.json",
        "a part of the configuration is written": "etc/bootstrap/environment",
        "a service has its new secrets": "run/object-store.applied",
        "the database has its new passwords": "run/orchestrator.applied",
    }
    known, outputs = set(lakehouse.secrets.values()), []
    for name, relative in moments.items():
        path = lakehouse.home / relative
        # A killed run may have removed it.
        written = path.stat().st_mtime_ns if path.exists() else 0
        with lakehouse.start("deploy", *LOUD, "--skip-tags", "verify", lakehouse_rotate_secrets=True) as run:
            wait_for(partial(_is_newer, path, written), name, 120.0)
            run.kill()
            outputs.append(run.output())
        known |= set(lakehouse.secrets.values())
    outputs.append(lakehouse.deploy(*LOUD).must_pass().output)
    assert_whole(lakehouse)
    now = lakehouse.secrets
    assert answer_of_the_api(lakehouse, now["api_token"]) == 200
    assert [value for value in encodings(known) if any(value in output for output in outputs)] == []
    places, current = [lakehouse.home / name for name in ("secrets", "etc")], frozenset(now.values())
    assert files_with(encodings(known - current), *places, but_for=current) == []


def _is_newer(path: Path, than_ns: int) -> bool:
    return path.stat().st_mtime_ns != than_ns


@pytest.mark.parametrize("playbook", ["health", "verify", "plan", "drift"])
def test_runs_that_only_look_show_no_secret_either(lakehouse: Lakehouse, playbook: str) -> None:
    run = lakehouse.run(playbook, *LOUD, environment={"ANSIBLE_INJECT_INVOCATION": "1"}).must_pass()
    if playbook == "plan":
        # The previous deployments were killed and completed: no change is left.
        assert run.changed == 0
    assert [value for value in encodings(set(lakehouse.secrets.values())) if value in run.output] == []
