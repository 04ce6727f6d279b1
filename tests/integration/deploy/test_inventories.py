# SPDX-License-Identifier: GPL-3.0-or-later
"""Inventories and machines that a deployment rejects: before any change, in one message, with variable and remedy."""

from __future__ import annotations

import json
import os
import pwd
import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.crypto_lakehouse.platform.tests.integration.deploy.lakehouse import (
    AS_ROOT,
    Lakehouse,
    Run,
)

AT_ONCE = 2
# A user of every machine: files that a test puts into a home beforehand belong to it.
EXISTING_USER = "nobody" if AS_ROOT else pwd.getpwuid(os.geteuid()).pw_name


def nothing(_lakehouse: Lakehouse) -> None:
    """Leave the machine unchanged."""


@dataclass(frozen=True)
class Bad:
    """The error, and the expected texts of the message. `prepare` adds something to the machine before."""

    variable: str
    words: tuple[str, ...]
    given: Mapping[str, Any] = field(default_factory=dict)
    prepare: Callable[[Lakehouse], None] = nothing
    problems: int = 1


def _belongs_to_nobody(path: Path) -> None:
    if AS_ROOT:
        entry = pwd.getpwnam(EXISTING_USER)
        for each in [path, *path.rglob("*")]:
            os.chown(each, entry.pw_uid, entry.pw_gid)


def _home(files: Mapping[str, str]) -> Callable[[Lakehouse], None]:
    """Return a home with these files, owned by the service user."""

    def prepare(lakehouse: Lakehouse) -> None:
        for name, text in files.items():
            path = lakehouse.home / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        _belongs_to_nobody(lakehouse.home)

    return prepare


def _home_is_a_file(lakehouse: Lakehouse) -> None:
    lakehouse.home.write_text("")


def _closed_folder(lakehouse: Lakehouse) -> None:
    lakehouse.folder.chmod(0o700 if AS_ROOT else 0o500)


def _marker(**words: str) -> dict[str, str]:
    marker = {"environment": "development", "target": "host", "version": "1.0.0", "software": "0", **words}
    return {".crypto-lakehouse.json": json.dumps({**marker, "made_home": True, "made_user": False})}


def _service(name: str, **words: Any) -> dict[str, Any]:
    return {"lakehouse_services": {name: words}}


CONNECTION = """\
all:
  vars:
    ansible_connection: local
    ansible_python_interpreter: "{{ ansible_playbook_python }}"
    lakehouse_target: host
    lakehouse_environment: development
"""
NEW_SERVICE = {"purpose": "Serves.", "image": "docker.io/library/python:3.13", "command": ["/usr/bin/python3"]}
AS_NOBODY = {"lakehouse_service_user": EXISTING_USER}

BAD = {
    "unknown target": Bad("lakehouse_target", ("'compost' is not known", "host"), {"lakehouse_target": "compost"}),
    "no target": Bad("lakehouse_target", ("it is not set", "host"), {"lakehouse_target": None}),
    "unknown environment": Bad(
        "lakehouse_environment", ("'prod'", "development, staging, production"), {"lakehouse_environment": "prod"}
    ),
    "misspelt variable": Bad(
        "lakehouse_enviroment", ("no variable", "write lakehouse_environment"), {"lakehouse_enviroment": "staging"}
    ),
    "undefined variable in an expression": Bad(
        "lakehouse_market_api_url",
        ("'no_such' is undefined", "expression"),
        {"lakehouse_market_api_url": "{{ no_such }}"},
    ),
    "boolean that is none": Bad(
        "lakehouse_rotate_secrets",
        ("'perhaps' is not a boolean", "true or false"),
        {"lakehouse_rotate_secrets": "perhaps"},
    ),
    "number that is none": Bad("lakehouse_port_offset", ("'many'", "set it from 0"), {"lakehouse_port_offset": "many"}),
    "list in place of services": Bad("lakehouse_services", ("is not a mapping",), {"lakehouse_services": ["api"]}),
    "list in place of proxies": Bad("lakehouse_proxy_env", ("is not a mapping",), {"lakehouse_proxy_env": ["x"]}),
    "unknown word of a service": Bad(
        "lakehouse_services.api.prots", ("unsupported key 'prots'", "write ports"), _service("api", prots={})
    ),
    "misspelt service": Bad(
        "lakehouse_services.apy", ("there is no service 'apy'", "write api"), _service("apy", ports={}), problems=2
    ),
    "unknown dependency": Bad(
        "lakehouse_services.api.depends_on",
        ("no service 'databse'", "write database"),
        _service("api", depends_on=["databse"]),
    ),
    "cycle": Bad(
        "lakehouse_services.database.depends_on",
        ("api -> database -> api", "take one dependency away"),
        _service("database", depends_on=["api"]),
    ),
    "two services on one port": Bad(
        "lakehouse_services.api.ports.http.port",
        ("api (http) and prometheus (http) both listen", "give one of them another port"),
        _service("api", ports={"http": {"port": 9090}}),
    ),
    "unknown secret in a service": Bad(
        "lakehouse_services.api.environment.X",
        ("secret_value.api_tokn",),
        _service("api", environment={"X": "${secret_value.api_tokn}"}),
    ),
    "port that is no number": Bad(
        "lakehouse_services.api.ports.http.port", ("whole number",), _service("api", ports={"http": {"port": "http"}})
    ),
    "service without a command": Bad(
        "lakehouse_services.notebook",
        ("command",),
        _service("notebook", **{name: value for name, value in NEW_SERVICE.items() if name != "command"}),
    ),
    "secrets that no service accepts": Bad(
        "lakehouse_secrets",
        (
            "secret 'api_token' is shorter than 16 characters",
            "'api_tokn' is unknown",
            "did you mean 'api_token'?",
            "secret 'alertmanager_slack_webhook_url' is not an http(s) address",
            "secret 'database_lakehouse_password' is empty",
            "secret 'orchestrator_password' is of type int",
            "'prometheus_password_bcrypt' is derived from 'prometheus_password'",
            "the expression of 'alertmanager_password' fails: 'no_such' is undefined",
        ),
        {
            "lakehouse_secrets": {
                "api_token": "twelve-chars",
                "api_tokn": "x" * 20,
                "alertmanager_slack_webhook_url": "hooks.example.org/services/T0",
                "database_lakehouse_password": "",
                "orchestrator_password": 22222222,
                "prometheus_password_bcrypt": "x" * 20,
                "alertmanager_password": "{{ no_such }}",
            }
        },
        problems=7,
    ),
    "relative home": Bad("lakehouse_home", ("'a/b' is not an absolute path", "/ or ~"), {"lakehouse_home": "a/b"}),
    "top-level home": Bad("lakehouse_home", ("'/opt' is a top-level folder", "below"), {"lakehouse_home": "/opt"}),
    "home that is too long": Bad(
        "lakehouse_home", ("unix socket", "107", "shorter"), {"lakehouse_home": f"/tmp/{'x' * 100}"}
    ),
    "home that is a file": Bad("lakehouse_home", ("is not a folder", "move it away"), prepare=_home_is_a_file),
    "home in a closed folder": Bad("lakehouse_home", ("set lakehouse_home to",), prepare=_closed_folder),
    "home with files of somebody": Bad(
        "lakehouse_home",
        ("contains files that no deployment created (thesis.tex)", "empty or a new folder"),
        AS_NOBODY,
        _home({"thesis.tex": ""}),
    ),
    "home of another environment": Bad(
        "lakehouse_environment",
        ("is of environment staging, not development", "staging"),
        AS_NOBODY,
        _home(_marker(environment="staging")),
    ),
    "damaged marker": Bad(
        "lakehouse_home",
        ("cannot be read: it is damaged", "restore it"),
        AS_NOBODY,
        _home({".crypto-lakehouse.json": "{"}),
    ),
    "newer version deployed": Bad(
        "lakehouse_home",
        ("deployed by version 2.0.0, which is newer", "use a collection of the version named"),
        AS_NOBODY,
        _home(_marker(version="2.0.0")),
    ),
    "older version deployed": Bad(
        "lakehouse_home",
        ("deployed by version 0.9.0", "playbooks/upgrade.yml"),
        AS_NOBODY,
        _home(_marker(version="0.9.0")),
    ),
    "data of another PostgreSQL": Bad(
        "lakehouse_home",
        ("data of PostgreSQL 16, which 17 cannot read", "dump it"),
        AS_NOBODY,
        _home({**_marker(), "data/database/data/cluster/PG_VERSION": "16\n"}),
    ),
    "no space": Bad(
        "lakehouse_min_free_disk_gib", ("are free at", "free space there"), {"lakehouse_min_free_disk_gib": 900000}
    ),
    "no memory": Bad(
        "lakehouse_min_memory_mib", ("MiB of memory are available", "reduce"), {"lakehouse_min_memory_mib": 9000000}
    ),
    "bind address that is a name": Bad(
        "lakehouse_bind_address",
        ("'localhost' is not an IPv4 address", "127.0.0.1"),
        {"lakehouse_bind_address": "localhost"},
    ),
    "bind address of another machine": Bad(
        "lakehouse_bind_address",
        ("192.0.2.7 is not an address of the machine", "ip -brief address"),
        {"lakehouse_bind_address": "192.0.2.7", **_service("api", ports={"http": {"expose": True}})},
    ),
    "exposed web page without a password": Bad(
        "lakehouse_services.orchestrator.ports.http.expose",
        ("its password would cross the network in plain text", "put a proxy"),
        _service("orchestrator", ports={"http": {"expose": True}}),
    ),
    "ports of outgoing connections": Bad(
        "lakehouse_port_offset",
        ("range of outgoing connections", "choose ports below"),
        {"lakehouse_port_offset": 13430},
    ),
    "package index that does not answer": Bad(
        "lakehouse_package_index",
        ("Python packages cannot be had", "http://127.0.0.1:9/simple", "lakehouse_proxy_env"),
        {"lakehouse_package_index": "http://127.0.0.1:9/simple"},
    ),
    "package index with a password": Bad(
        "lakehouse_package_index",
        ("holds credentials", "leave user and password out"),
        {"lakehouse_package_index": "https://me:hunter2hunter2@example.org/simple"},
    ),
    "certificates that are not there": Bad(
        "lakehouse_ca_bundle", ("/nonexistent/ca.pem",), {"lakehouse_ca_bundle": "/nonexistent/ca.pem"}
    ),
    "services as root": Bad(
        "lakehouse_service_user", ("must not run as root", "unprivileged"), {"lakehouse_service_user": "root"}
    ),
}
HOSTS = {name: f"host-{number}" for number, name in enumerate(BAD)}


@dataclass
class Several(Lakehouse):
    """Places of one run: the inventory file in `hosts` contains the variables of each."""

    def inventory(self, **variables: Any) -> dict[str, Any]:
        return variables


def _inventory_of(places: Mapping[str, Lakehouse]) -> str:
    """Return an inventory with a host for each place, with the variables of its case."""
    hosts = {host: places[name].inventory(**BAD[name].given) for name, host in HOSTS.items()}
    groups = {"lakehouse_controller": {"hosts": {"control": {}}}, "lakehouse_hosts": {"hosts": hosts}}
    return yaml.safe_dump({"all": {**yaml.safe_load(CONNECTION)["all"], "children": groups}})


def _run_of(host: str, run: Run) -> Run:
    """Return the output of a run about one host: its failure, to the next line of a result, and its recap."""
    told = re.findall(rf"^  [A-Za-z]+ .* \[{host}\].*\n(?: {{11}}.*\n|\n)*", run.output, re.MULTILINE)
    (recap,) = re.findall(rf"^{host} +:.*$", run.output, re.MULTILINE)
    return Run(int("failed=1" in recap), f"{''.join(told)}{recap}\n", run.took_s)


@pytest.fixture(scope="module")
def refused(place: Callable[[], Lakehouse]) -> dict[str, tuple[Lakehouse, Run]]:
    """Return every case with its place: a separate folder, unused ports and an unused user.

    The cases are hosts of one run.
    """
    whole = place()
    places = {name: replace(whole, folder=whole.folder / host) for name, host in HOSTS.items()}
    for name, lakehouse in places.items():
        lakehouse.folder.mkdir(mode=0o755)
        BAD[name].prepare(lakehouse)
    hosts = whole.folder / "hosts.yml"
    hosts.write_text(_inventory_of(places))
    # apt reads its package lists once instead of once for each host.
    settings = whole.folder / "apt.conf"
    settings.write_text(f'Dir::Cache "{whole.folder}";\nDir::Cache::pkgcache "packages";\n')
    several = Several(whole.folder, whole.port_offset, whole.user, hosts=hosts)
    run = several.run("deploy", f"--forks={AT_ONCE}", environment={"APT_CONFIG": str(settings)}).must_fail()
    return {name: (lakehouse, _run_of(HOSTS[name], run)) for name, lakehouse in places.items()}


def _files(lakehouse: Lakehouse) -> set[str]:
    return {str(path.relative_to(lakehouse.folder)) for path in lakehouse.folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_inventory_is_refused_in_one_message_before_any_change(
    refused: dict[str, tuple[Lakehouse, Run]], name: str, tmp_path: Path
) -> None:
    bad, (lakehouse, run) = BAD[name], refused[name]
    output = " ".join(run.output.split())
    assert run.exit_code != 0
    assert run.changed == 0
    assert output.count("nothing was changed:") == 1
    assert output.count("Remedy:") == bad.problems, run.output
    assert re.search(rf"{re.escape(bad.variable)}[^ ]*: .* Remedy: ", output), run.output
    assert all(word in output for word in bad.words), run.output
    expected = replace(lakehouse, folder=tmp_path)
    bad.prepare(expected)
    assert _files(lakehouse) == _files(expected)
    assert lakehouse.user not in {entry.pw_name for entry in pwd.getpwall()}


def test_a_taken_port_is_named_with_the_process_that_holds_it(other_place: Lakehouse) -> None:
    with socket.create_server(("127.0.0.1", 8080 + other_place.port_offset)):
        output = " ".join(other_place.deploy().must_fail().output.split())
    assert (
        f"lakehouse_port_offset: port {8080 + other_place.port_offset} on 127.0.0.1 (api, http) is taken by" in output
    )
    assert f"(process {os.getpid()} of user" in output
    assert "Remedy: end that process, or set lakehouse_port_offset" in output
    assert not other_place.home.exists()


def test_many_problems_come_in_one_message(other_place: Lakehouse) -> None:
    given: dict[str, Any] = {
        "lakehouse_environment": "prod",
        "lakehouse_bind_address": "localhost",
        "lakehouse_min_memory_mib": 9000000,
        "lakehouse_enviroment": "staging",
        "lakehouse_services": {"api": {"prots": {}}},
        "lakehouse_market_api_url": "{{ no_such }}",
    }
    output = other_place.deploy(**given).must_fail().output
    assert "problems, nothing was changed:" in output
    assert all(name in output for name in given)
    assert output.count("nothing was changed") == 1
    assert not other_place.home.exists()


def test_the_reason_of_a_failed_secret_is_not_shown(other_place: Lakehouse) -> None:
    value = "hunter2hunter2: x: y"
    run = other_place.deploy("-vvv", lakehouse_secrets="{{ vaulted | from_yaml }}", vaulted=value).must_fail()
    assert "lakehouse_secrets: its expression fails" in run.output
    assert "hunter2" not in run.output


@pytest.mark.parametrize(
    ("hosts", "message"),
    [
        ("lakehouse_hosts:\n  hosts:\n    localhost:\n", "group lakehouse_controller has no host"),
        ("lakehouse_controller:\n  hosts:\n    localhost:\n", "group lakehouse_hosts has no host"),
    ],
)
def test_an_inventory_without_a_group_is_refused(other_place: Lakehouse, hosts: str, message: str) -> None:
    other_place.hosts = other_place.folder / "hosts.yml"
    other_place.hosts.write_text(f"{hosts}{CONNECTION}")
    run = other_place.deploy().must_fail()
    assert message in run.output
    assert run.changed == 0


def test_a_limit_that_leaves_a_group_out_is_refused(other_place: Lakehouse) -> None:
    other_place.hosts = other_place.folder / "hosts.yml"
    groups = "lakehouse_controller:\n  hosts:\n    control:\nlakehouse_hosts:\n  hosts:\n    localhost:\n"
    other_place.hosts.write_text(f"{groups}{CONNECTION}")
    run = other_place.deploy("--limit", "localhost").must_fail()
    assert "--limit leaves out control of group lakehouse_controller. Remedy: add lakehouse_controller" in run.output
    assert not other_place.home.exists()
