# SPDX-License-Identifier: GPL-3.0-or-later
"""The units for systemd, and the script that starts supervisord without any deployment tool."""

from __future__ import annotations

import configparser
import os
import shutil
import stat
import subprocess
from pathlib import Path

import jinja2
import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host import operate, supervisor
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.errors import HostError
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.operate import Operator
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.services import (
    Home,
    Wish,
    supervisor_digest,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.supervisor import Supervisor, start_script

TEMPLATES = Path(__file__).parents[3] / "roles/host/templates"
UNIT = "crypto-lakehouse-srv-lakehouse"
HOME = "/srv/lakehouse"


def unit(kind: str, home: str = HOME) -> str:
    template = jinja2.Template((TEMPLATES / f"boot.{kind}.j2").read_text(encoding="utf-8"), trim_blocks=True)
    return str(template.render(host_home=home, host_user="daemon", _host_boot_unit=UNIT))


def read(text: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(text)
    return parser


def test_the_service_has_no_right_beyond_its_folder() -> None:
    service = read(unit("service"))["Service"]
    assert service["User"] == "daemon"
    assert (service["ProtectSystem"], service["ReadWritePaths"], service["CapabilityBoundingSet"]) == (
        "strict",
        HOME,
        "",
    )
    assert {service[word] for word in ("NoNewPrivileges", "PrivateDevices", "PrivateTmp", "RestrictSUIDSGID")} == {
        "yes"
    }
    assert (service["Restart"], service["KillMode"]) == ("always", "mixed")


def test_a_home_below_tmp_is_not_hidden_from_its_own_services() -> None:
    assert "PrivateTmp" not in read(unit("service", "/tmp/lakehouse"))["Service"]


def test_systemd_starts_the_service_when_a_deployment_asks_for_it() -> None:
    path, service = read(unit("path")), read(unit("service"))
    asked = f"{HOME}/run/supervisor/wanted"
    assert (path["Path"]["PathExists"], path["Path"]["Unit"]) == (asked, f"{UNIT}.service")
    assert path["Install"]["WantedBy"] == "multi-user.target"
    assert service["Unit"]["ConditionPathExists"] == asked
    assert service["Service"]["ExecStart"] == f"{HOME}/run/supervisor/start"


@pytest.mark.parametrize("kind", ["service", "path"])
def test_systemd_understands_every_word(kind: str, tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    start = tmp_path / "run/supervisor/start"
    start.parent.mkdir(parents=True)
    start.write_text("#!/bin/sh\n")
    start.chmod(0o755)
    for each in ("service", "path"):
        (tmp_path / f"{UNIT}.{each}").write_text(unit(each, str(tmp_path)))
    assert read(unit(kind))
    if program:
        command = [program, "verify", "--man=no", str(tmp_path / f"{UNIT}.{kind}")]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"})
        assert UNIT not in done.stdout + done.stderr


def test_the_script_becomes_the_program_with_the_environment_and_shows_none_of_it(tmp_path: Path) -> None:
    value = 'it\'s $(a) "value"\\'
    script = tmp_path / "start"
    script.write_text(start_script(["/bin/sh", "-c", 'printf %s "$GIVEN$1"', "x", " and 'more'"], {"GIVEN": value}))
    script.chmod(0o700)
    assert "GIVEN" not in script.read_text().splitlines()[-1].partition("GIVEN")[0]
    done = subprocess.run([script], capture_output=True, text=True, check=True)
    assert done.stdout == f"{value} and 'more'"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path, tmp_path / "bin")
    for folder in (home.given / "programs", home.wanted / "programs", home.bin):
        folder.mkdir(parents=True)
    (home.wanted / "supervisord.conf").write_text("[supervisord]\n")
    (home.bin / "supervisord").write_text("")
    return home


def test_a_deployment_leaves_the_start_to_systemd_where_it_watches(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operate, "is_watched", lambda name: name == UNIT)
    monkeypatch.setattr(operate, "await_supervisord", lambda path, _unit: Supervisor(path))
    Operator(home, Wish(environment={"A": "b"}, boot_unit=UNIT))._supervisor()
    assert home.boot_flag.exists()
    assert stat.S_IMODE(home.start_script.stat().st_mode) == 0o700
    assert "export A=b\n" in home.start_script.read_text()
    assert f"supervisord --configuration {home.config} --nodaemon" in home.start_script.read_text()


def test_a_deployment_starts_supervisord_itself_where_systemd_does_not_watch(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []
    monkeypatch.setattr(operate, "is_watched", lambda _name: False)
    monkeypatch.setattr(operate, "start_supervisord", lambda command, *_rest: started.append(command))
    Operator(home, Wish(boot_unit=UNIT))._supervisor()
    assert started == [[str(home.bin / "supervisord"), "--configuration", str(home.config)]]
    assert not home.boot_flag.exists()
    assert home.start_script.exists()


def test_what_is_ended_for_good_is_not_started_again_by_systemd(home: Home) -> None:
    home.boot_flag.write_text("")
    Operator(home, Wish(boot_unit=UNIT))._end_supervisor([], answers=False)
    assert not home.boot_flag.exists()


def test_another_way_of_starting_renews_supervisord(home: Home) -> None:
    assert supervisor_digest(home, Wish()) != supervisor_digest(home, Wish(boot_unit=UNIT))


def test_a_unit_that_does_not_start_is_named(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "START_WAIT_S", 0.1)
    with pytest.raises(HostError, match=f"journalctl -u {UNIT}.service"):
        supervisor.await_supervisord(home.socket, UNIT)


def test_a_machine_without_systemd_watches_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert not supervisor.is_watched(UNIT)
