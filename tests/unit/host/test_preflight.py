# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import tempfile
import time
from collections import namedtuple
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host import preflight
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.machine import Identity, Python, System
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.preflight import (
    MARKER,
    Port,
    Question,
    examine,
    read_machine,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.shared.problem import Problem

DEBIAN = System("debian", "12", "x86_64", systemd=True)
MOUNT = namedtuple("MOUNT", "f_flag f_bavail f_frsize f_files f_favail")  # noqa: PYI024 - the fields of os.statvfs


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a home for an installation on a suitable machine, as an unprivileged user."""
    me = Identity("operator", os.geteuid(), frozenset({os.getegid()}))
    monkeypatch.setattr(preflight, "current_identity", lambda: me)
    monkeypatch.setattr(preflight, "read_system", lambda: DEBIAN)
    monkeypatch.setattr(preflight, "pythons", lambda *_: [Python("/usr/bin/python3.11", "3.11.2")])
    monkeypatch.setattr(preflight, "available_memory_mib", lambda: 8000)
    # The path of a socket is limited, and pytest's own folders have long names.
    with tempfile.TemporaryDirectory(prefix="host") as folder:
        yield Path(folder) / "home"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Return a listening server on a port outside of the client range."""
    monkeypatch.setattr(preflight, "_outgoing_ports", lambda: range(0))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def problems(home: Path, **question: Any) -> list[Problem]:
    return examine(Question(home=str(home), **question))[1]


def only(found: list[Problem], variable: str) -> Problem:
    assert [problem.variable for problem in found] == [variable], found
    return found[0]


def test_a_machine_that_lacks_nothing_has_no_problem_and_is_not_changed(home: Path) -> None:
    facts, found = examine(Question(home=str(home), min_memory_mib=1536, ports=[Port("a", "b", "127.0.0.1", 65001)]))
    assert found == []
    assert not home.exists()
    assert facts["home"] == str(home)
    assert facts["home_missing"] is True
    assert facts["python"] == "/usr/bin/python3.11"
    assert facts["marker"] is None
    json.dumps(facts)


@pytest.mark.parametrize(
    "system",
    [("arch", "", "x86_64"), ("debian", "11", "x86_64"), ("debian", "12", "riscv64"), ("ubuntu", "20.04", "x86_64")],
)
def test_an_unsupported_system_is_refused_with_those_that_are_supported(
    home: Path, monkeypatch: pytest.MonkeyPatch, system: tuple[str, str, str]
) -> None:
    monkeypatch.setattr(preflight, "read_system", lambda: System(*system, systemd=False))
    problem = only(problems(home), "inventory_hostname")
    assert "not supported" in problem.message
    assert "debian 12, debian 13, ubuntu 22.04, ubuntu 24.04, on aarch64 or x86_64" in problem.remedy


def test_too_little_disk_or_memory_names_both_figures(home: Path) -> None:
    disk, memory = problems(home, min_free_disk_gib=1e6, min_memory_mib=9000)
    assert disk.variable == "lakehouse_min_free_disk_gib"
    assert "1000000.0 are needed" in disk.message
    assert (memory.variable, memory.message) == (
        "lakehouse_min_memory_mib",
        "8000 MiB of memory are available, 9000 are needed",
    )


def test_an_installed_platform_needs_a_tenth_of_the_disk(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _: MOUNT(0, 1024, 1 << 20, 0, 0))
    only(problems(home, min_free_disk_gib=5), "lakehouse_min_free_disk_gib")
    software = home / "software/abc"
    (software / "venv/bin").mkdir(parents=True)
    (software / "venv/bin/python").symlink_to("/bin/sh")
    (software / ".complete").write_text('{"packages": {"prometheus": "2.42"}}')
    facts, found = examine(Question(home=str(home), min_free_disk_gib=5, software="abc"))
    assert found == []
    assert (facts["software"], facts["software_installed"]) == ({"abc": {"prometheus": "2.42"}}, True)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"packages": 5}'])
def test_software_that_is_not_whole_does_not_count(home: Path, content: str) -> None:
    (home / "software/abc/venv/bin").mkdir(parents=True)
    (home / "software/abc/venv/bin/python").symlink_to("/bin/sh")
    (home / "software/abc/.complete").write_text(content)
    assert examine(Question(home=str(home)))[0]["software"] == {}


def test_few_inodes_and_unsuitable_mounts_are_told(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = os.ST_RDONLY | os.ST_NOEXEC
    monkeypatch.setattr(os, "statvfs", lambda _: MOUNT(flags, 1 << 30, 4096, 1000, 10))
    messages = " ".join(problem.message for problem in problems(home))
    for part in ("mounted read-only", "noexec", "room for 10 more files, 20000 are needed"):
        assert part in messages


def test_a_taken_port_names_who_holds_it(home: Path, server: socket.socket) -> None:
    port = server.getsockname()[1]
    problem = only(problems(home, ports=[Port("database", "postgresql", "127.0.0.1", port)]), "lakehouse_port_offset")
    assert f"port {port} on 127.0.0.1 (database, postgresql) is taken by " in problem.message
    assert f"(process {os.getpid()} of user" in problem.message


def test_a_port_of_outgoing_connections_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "_outgoing_ports", lambda: range(32768, 61000))
    problem = only(problems(home, ports=[Port("api", "http", "127.0.0.1", 40080)]), "lakehouse_port_offset")
    assert problem.message == "port 40080 (api, http) is in the range of outgoing connections"
    assert "below 32768" in problem.remedy


def test_a_port_that_the_platform_itself_holds_is_free(
    home: Path, server: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "supervised", lambda *_: {os.getpid(): "database"})
    ports = [Port("a", "b", "127.0.0.1", server.getsockname()[1])]
    facts, found = examine(Question(home=str(home), ports=ports))
    assert found == []
    assert facts["running"] is True
    assert facts["memory_available_mib"] > 8000


def test_an_address_of_another_machine_and_a_port_of_root_are_told(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "identity", lambda name: Identity(name, 12345))
    me = Identity("root", 0, frozenset(), "/root")
    monkeypatch.setattr(preflight, "current_identity", lambda: me)
    monkeypatch.setattr(preflight, "_lowest_free_port", lambda: 1024)
    ports = [Port("api", "http", "192.0.2.1", 8080), Port("api", "https", "127.0.0.1", 443)]
    found = {problem.variable: problem.message for problem in problems(home, user="lakehouse", ports=ports)}
    assert found["lakehouse_bind_address"] == "192.0.2.1 is not an address of the machine"
    assert found["lakehouse_services"] == "port 443 (api, https) is below 1024, which only root may open"


def test_a_home_that_is_a_file_or_below_one_is_refused(home: Path) -> None:
    home.write_text("")
    for path in (home, home / "below"):
        assert f"{home} is not a folder" in only(problems(path), "lakehouse_home").message


def test_a_closed_parent_of_the_home_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "current_identity", lambda: Identity("root", 0))
    monkeypatch.setattr(preflight, "identity", Identity)
    closed = home / "closed"
    closed.mkdir(parents=True, mode=0o700)
    problem = only(problems(closed / "platform", user="lakehouse"), "lakehouse_home")
    assert "is closed to user lakehouse" in problem.message


def test_a_home_that_cannot_be_made_says_where(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "current_identity", lambda: Identity("operator", 54321))
    place = Path("/usr/lakehouse-home")
    assert "/usr may not be written to" in only(problems(place), "lakehouse_home").message


def test_a_folder_with_files_of_somebody_else_is_refused_and_a_half_made_one_is_not(home: Path) -> None:
    (home / "software").mkdir(parents=True)
    (home / "etc").mkdir()
    assert problems(home) == []
    (home / "holiday.jpg").touch()
    assert "files that no deployment created (holiday.jpg)" in only(problems(home), "lakehouse_home").message
    (home / MARKER).write_text('{"environment": "development", "target": "host"}')
    assert problems(home) == []


def test_a_folder_of_another_user_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home.mkdir(mode=0o755)
    monkeypatch.setattr(preflight, "current_identity", lambda: Identity("root", 0))
    monkeypatch.setattr(preflight, "identity", lambda name: Identity(name, 54321))
    monkeypatch.setattr(preflight, "closed_part", lambda *_: None)
    assert problems(home, user="lakehouse") == []
    (home / "etc").mkdir()
    problem = only(problems(home, user="lakehouse"), "lakehouse_home")
    assert "belongs to" in problem.message
    assert f"chown -R lakehouse {home}" in problem.remedy


def test_the_marker_of_another_environment_or_target_is_refused(home: Path) -> None:
    home.mkdir()
    (home / MARKER).write_text('{"environment": "production", "target": "host"}')
    found = problems(home, environment="staging", target="k3s")
    assert {problem.variable for problem in found} == {"lakehouse_environment", "lakehouse_target"}
    assert f"{home} is of environment production, not staging" in {problem.message for problem in found}
    assert problems(home, environment="production", target="host") == []


@pytest.mark.parametrize("content", ["", "{", "[]", "null"])
def test_a_damaged_marker_is_told(home: Path, content: str) -> None:
    home.mkdir()
    (home / MARKER).write_text(content)
    assert "cannot be read: it is damaged" in only(problems(home), "lakehouse_home").message


def test_a_home_whose_socket_path_would_be_too_long_says_by_how_much(home: Path) -> None:
    path = home / ("x" * (107 - len(f"{home}/run/supervisor.sock.4194304") - 1))
    assert problems(path) == []
    problem = only(problems(path.with_name(f"{path.name}yyy")), "lakehouse_home")
    assert "3 bytes longer than the 107 allowed" in problem.message
    assert problems(home, unix_sockets=[f"run/{'z' * 100}"]) != []


def test_data_of_another_postgresql_is_refused_with_the_way_out(home: Path) -> None:
    data = home / "data/database/data"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("15\n")
    question = {"postgresql_data": "data/database/data", "postgresql_major": 17}
    problem = only(problems(home, **question), "lakehouse_home")
    assert "holds data of PostgreSQL 15, which 17 cannot read" in problem.message
    (data / "PG_VERSION").write_text("17\n")
    assert problems(home, **question) == []


def test_no_usable_interpreter_lists_what_was_tried(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "pythons", lambda *_: [Python("/x/python3.12", "", "does not run")])
    assert "(/x/python3.12: does not run)" in only(problems(home), "inventory_hostname").message


def test_a_clock_that_is_wrong_is_told(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home.mkdir()
    (home / MARKER).write_text("{}")
    later = time.time() + 3600
    os.utime(home / MARKER, (later, later))
    assert "but the last deployment was at" in only(problems(home), "inventory_hostname").message
    (home / MARKER).unlink()
    monkeypatch.setattr(time, "time", lambda: 1000.0)
    assert "the machine's clock shows 1970-01-01 00:16:40 UTC" in only(problems(home), "inventory_hostname").message


def test_packages_that_cannot_be_had_are_told_unless_they_are_optional_or_installed(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels/duckdb-1.5-py3-none-any.whl").touch()
    for name in ("apt-cache", "apt-get"):
        (tmp_path / name).write_text("#!/bin/sh\nexit 100\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    question = Question(
        home=str(home),
        python_packages=["duckdb", "prefect"],
        apt_packages=["prometheus", "grafana"],
        optional_packages=["grafana"],
        package_index="http://user:hidden@127.0.0.1:1/simple",
    )
    facts, (python, apt) = examine(question)
    assert python.variable == "lakehouse_package_index"
    assert "Python packages cannot be had: prefect; asked: http://127.0.0.1:1/simple" in python.message
    assert "hidden" not in str(python)
    assert "cannot be had: prometheus" in apt.message
    assert facts["obtainable"] == {"duckdb": True, "prefect": False, "prometheus": False, "grafana": False}


def test_without_a_home_the_default_is_that_of_the_user(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    operator = Identity("operator", 54321, home="/home/operator")
    monkeypatch.setattr(preflight, "current_identity", lambda: operator)
    assert read_machine(Question()).home.path == Path("/home/operator/.local/share/crypto-lakehouse")
    assert read_machine(Question(home="~/lake")).home.path == Path("/home/operator/lake")
    monkeypatch.setattr(preflight, "current_identity", lambda: replace(operator, uid=0))
    assert read_machine(Question(user="lakehouse")).home.path == Path("/var/lib/crypto-lakehouse")


def folder_of_backups(tmp_path: Path, state: str) -> Path:
    folder = tmp_path / "disk/backups"
    folder.parent.mkdir()
    if state == "a file":
        folder.touch()
    elif state != "missing":
        folder.mkdir()
    if state == "of backups":
        (folder / "development/sets").mkdir(parents=True)
    elif state == "of others":
        (folder / "thesis.tex").touch()
    return folder


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ("missing", "does not exist"),
        ("a file", "is not a folder"),
        ("empty", ""),
        ("of backups", ""),
        ("of others", ""),
    ],
)
def test_a_folder_of_backups_must_be_there(home: Path, tmp_path: Path, state: str, message: str) -> None:
    folder = folder_of_backups(tmp_path, state)
    found = problems(home, backup_folder=str(folder))
    assert (only(found, "lakehouse_backup_folder").message == f"{folder} {message}") if message else found == []


@pytest.mark.parametrize("place", ["", "backups", "data/../backups", "link"])
def test_a_folder_of_backups_inside_of_the_home_is_refused(home: Path, tmp_path: Path, place: str) -> None:
    link = tmp_path / "link"
    link.symlink_to(home / "backups")
    folder = link if place == "link" else home / place
    problem = only(problems(home, backup_folder=str(folder)), "lakehouse_backup_folder")
    assert "which is lost or destroyed as a whole" in problem.message


def test_the_remedy_for_a_missing_folder_of_backups_works(home: Path, tmp_path: Path) -> None:
    folder = folder_of_backups(tmp_path, "missing")
    remedy = only(problems(home, backup_folder=str(folder)), "lakehouse_backup_folder").remedy
    subprocess.run(shlex.split(remedy.partition(": ")[2]), check=True)
    assert problems(home, backup_folder=str(folder)) == []


@pytest.mark.parametrize(
    ("as_root", "state", "message"),
    [
        (True, "empty", ""),
        (True, "of backups", ""),
        (True, "of others", "holds other files than backups"),
        (False, "empty", "belongs to"),
        (False, "of backups", "belongs to"),
    ],
)
def test_only_root_gives_a_folder_of_backups_to_the_service_user(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_root: bool, state: str, message: str
) -> None:
    folder = folder_of_backups(tmp_path, state)
    for each in (tmp_path, folder.parent, folder):
        each.chmod(0o755)
    somebody = Identity("operator", os.geteuid() + 1, frozenset())
    monkeypatch.setattr(
        preflight, "current_identity", lambda: Identity("root", 0, frozenset()) if as_root else somebody
    )
    monkeypatch.setattr(preflight, "identity", lambda _name: somebody)
    monkeypatch.setattr(preflight, "closed_part", lambda *_: None)
    facts, found = examine(Question(str(home), "operator", backup_folder=str(folder)))
    mine = [problem for problem in found if problem.variable == "lakehouse_backup_folder"]
    assert (message in mine[0].message) if message else mine == []
    assert facts["backup_folder_ready"] is False


def test_a_certificate_bundle_that_is_not_there_or_closed_is_told(home: Path, tmp_path: Path) -> None:
    assert "has no file" in only(problems(home, ca_bundle="/no/such/ca.pem"), "lakehouse_ca_bundle").message
    bundle = tmp_path / "ca.pem"
    bundle.touch()
    assert problems(home, ca_bundle=str(bundle)) == []
