# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host import machine
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.machine import (
    Identity,
    available_memory_mib,
    closed_part,
    current_identity,
    identity,
    nearest_existing,
    pythons,
    read_system,
    resident_mib,
)

STRANGER = Identity("nobody-yet")


def status(mode: int, uid: int = 500, gid: int = 500) -> os.stat_result:
    return os.stat_result((stat.S_IFDIR | mode, 0, 0, 1, uid, gid, 0, 0, 0, 0))


@pytest.mark.parametrize(
    ("user", "mode", "wanted", "allowed"),
    [
        (STRANGER, 0o750, 1, False),
        (STRANGER, 0o751, 1, True),
        (STRANGER, 0o751, 5, False),
        (Identity("x", 500), 0o700, 7, True),
        (Identity("x", 500), 0o077, 1, False),
        (Identity("x", 600, frozenset({500})), 0o750, 5, True),
        (Identity("x", 600, frozenset({500})), 0o707, 5, False),
        (Identity("root", 0), 0o000, 7, True),
    ],
)
def test_rights_are_those_of_owner_group_or_others(user: Identity, mode: int, wanted: int, allowed: bool) -> None:
    assert user.may(status(mode), wanted) is allowed


def test_a_folder_that_is_closed_to_others_is_the_part_that_is_named(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    (closed / "open").mkdir(parents=True)
    closed.chmod(0o700)
    for folder in (tmp_path, *tmp_path.parents):
        if not STRANGER.may(folder.stat(), 1):
            closed = min(closed, folder)
    assert closed_part(tmp_path / "closed/open", STRANGER) == closed
    assert closed_part(tmp_path / "closed/open", Identity("root", 0)) is None
    assert closed_part(tmp_path / "missing", Identity("root", 0)) == tmp_path / "missing"


def test_a_link_is_judged_by_where_it_leads(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/usr/bin")
    assert closed_part(tmp_path / "link", STRANGER) is None


def test_what_exists_of_a_path_is_found(tmp_path: Path) -> None:
    assert nearest_existing(tmp_path / "a/b/c") == tmp_path
    (tmp_path / "dangling").symlink_to("/nonexistent")
    assert nearest_existing(tmp_path / "dangling") == tmp_path / "dangling"


def test_users_are_known_by_name_or_not_yet_there() -> None:
    assert identity("root").uid == 0
    assert identity("no-such-user-here").uid is None
    assert current_identity().uid == os.geteuid()


def test_a_user_without_a_name_is_called_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    assert current_identity().name == "54321"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian"\n', ("debian", "12")),
        ("ID='ubuntu'\nVERSION_ID='24.04'\nVERSION='24.04.1 LTS (Noble)'\n", ("ubuntu", "24.04")),
        ("NAME=Arch\nID=arch\n", ("arch", "")),
        ("", ("unknown", "")),
    ],
)
def test_the_distribution_is_read_from_os_release(tmp_path: Path, text: str, expected: tuple[str, str]) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/os-release").write_text(text)
    system = read_system(tmp_path)
    assert (system.distribution, system.version) == expected
    assert system.systemd is False
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    assert read_system(tmp_path).systemd is True


@pytest.mark.parametrize(
    ("cgroup", "limits", "expected_mib"),
    [
        ("0::/\n", {}, 8000),
        ("0::/a/b\n", {"sys/fs/cgroup/a/memory.max": "2097152000", "sys/fs/cgroup/a/b/memory.max": "max"}, 2000),
        ("5:memory:/a\n0::/\n", {"sys/fs/cgroup/memory/a/memory.limit_in_bytes": "1048576000"}, 1000),
        ("5:cpu,memory:/gone\n", {"sys/fs/cgroup/memory/memory.limit_in_bytes": "1048576000"}, 1000),
        ("5:memory:/\n", {"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712"}, 8000),
        ("3:cpu:/a\n", {"sys/fs/cgroup/cpu/a/memory.max": "1"}, 8000),
    ],
)
def test_memory_is_what_is_available_or_a_groups_limit(
    tmp_path: Path, cgroup: str, limits: dict[str, str], expected_mib: int
) -> None:
    files = {"proc/meminfo": f"MemTotal: 99 kB\nMemAvailable:  {8000 * 1024} kB\n", "proc/self/cgroup": cgroup}
    for path, text in {**files, **limits}.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(f"{text}\n" if path in limits else text)
    assert available_memory_mib(tmp_path) == expected_mib


def test_the_memory_of_processes_is_added_up_and_a_gone_one_is_nothing() -> None:
    assert resident_mib([os.getpid()]) > 5
    assert resident_mib([2**22 + 1]) == 0


def test_interpreters_that_cannot_be_used_say_why(tmp_path: Path) -> None:
    old, broken, closed = tmp_path / "old", tmp_path / "broken", tmp_path / "closed"
    old.write_text("#!/bin/sh\necho 3 9 2\necho /usr\n")
    broken.write_text("#!/bin/sh\nexit 1\n")
    closed.write_text("")
    for path in (old, broken):
        path.chmod(0o755)
    closed.chmod(0o600)
    missing = tmp_path / "missing"
    given = [str(path) for path in (old, broken, missing, closed)]
    found = {python.path: python.problem for python in pythons(Identity("x", os.geteuid()), given)}
    assert found[str(old)] == "is version 3.9.2"
    assert found[str(broken)] == "does not run"
    assert found[str(missing)] == f"{missing} is missing"
    if os.geteuid() != 0:
        assert "is closed to user x" in found[str(closed)]


def test_an_interpreter_whose_library_is_closed_to_the_user_is_not_for_it(tmp_path: Path) -> None:
    for folder in (tmp_path, *tmp_path.parents):
        if not STRANGER.may(folder.stat(), 1):
            break
    else:
        pytest.fail("the temporary folder is open to everybody")
    python = tmp_path / "python"
    python.symlink_to(sys.executable)
    (found,) = [python_found for python_found in pythons(STRANGER, [str(python)]) if python_found.path == str(python)]
    assert "closed to user nobody-yet" in found.problem or found.problem == ""


def test_the_running_interpreter_can_be_used_by_its_own_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "OLDEST_PYTHON", sys.version_info[:2])
    monkeypatch.setattr(machine, "NEWEST_PYTHON", sys.version_info[:2])
    usable = [python for python in pythons(current_identity()) if not python.problem]
    assert usable
    assert usable[0].version.startswith(f"{sys.version_info[0]}.{sys.version_info[1]}.")


@pytest.mark.parametrize(
    ("passwd", "shadow", "incomplete"),
    [
        ("root:x:0:0::/root:/bin/sh\nlakehouse:x:990:990::/srv:/bin/false\n", "root:*:1::::::\n", True),
        ("lakehouse:x:990:990::/srv:/bin/false\n", "lakehouse:!:1::::::\n", False),
        # The user of a directory service.
        ("root:x:0:0::/root:/bin/sh\n", "root:*:1::::::\n", False),
        ("lakehouse:x:990:990::/srv:/bin/false\n", None, False),
    ],
)
def test_a_user_whose_creation_was_interrupted_has_no_shadow_entry(
    tmp_path: Path, passwd: str, shadow: str | None, incomplete: bool
) -> None:
    (tmp_path / "passwd").write_text(passwd)
    if shadow is not None:
        (tmp_path / "shadow").write_text(shadow)
    assert machine.is_incomplete("lakehouse", tmp_path / "passwd", tmp_path / "shadow") is incomplete
