# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.listeners import (
    Listener,
    describe_holder,
    holders,
    listeners,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.tree import user_name

ALL = "0.0.0.0"  # noqa: S104 - looked for, never bound to
HEADER = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
LINE = "   0: {address}:{port:04X} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000 {uid} 0 {inode} 1 0\n"


def write_tables(proc: Path, tcp: str, tcp6: str = "") -> None:
    (proc / "net").mkdir()
    (proc / "net/tcp").write_text(HEADER + tcp)
    (proc / "net/tcp6").write_text(HEADER + tcp6)


def test_only_what_listens_is_listed_with_its_address(tmp_path: Path) -> None:
    lines = [
        LINE.format(address="0100007F", port=5432, state="0A", uid=105, inode=7),
        LINE.format(address="00000000", port=22, state="0A", uid=0, inode=8),
        LINE.format(address="0100007F", port=40000, state="01", uid=0, inode=9),
    ]
    six = LINE.format(address="0" * 32, port=80, state="0A", uid=33, inode=10)
    loopback = LINE.format(address="00000000000000000000000001000000", port=81, state="0A", uid=33, inode=11)
    write_tables(tmp_path, "".join(lines), six + loopback)
    assert listeners(tmp_path) == [
        Listener("127.0.0.1", 5432, 105, 7),
        Listener(ALL, 22, 0, 8),
        Listener("::", 80, 33, 10),
        Listener("::1", 81, 33, 11),
    ]


def test_a_machine_without_ipv6_has_only_one_table(tmp_path: Path) -> None:
    write_tables(tmp_path, "")
    (tmp_path / "net/tcp6").unlink()
    assert listeners(tmp_path) == []


@pytest.mark.parametrize(
    ("there", "wanted", "collides"),
    [
        (("127.0.0.1", 80), ("127.0.0.1", 80), True),
        (("127.0.0.1", 80), ("127.0.0.1", 81), False),
        (("127.0.0.1", 80), ("127.0.0.2", 80), False),
        (("127.0.0.1", 80), (ALL, 80), True),
        ((ALL, 80), ("127.0.0.1", 80), True),
        (("::", 80), ("127.0.0.1", 80), True),
        (("::1", 80), ("127.0.0.1", 80), False),
        (("::1", 80), (ALL, 80), False),
        ((ALL, 80), ("::1", 80), False),
        (("::ffff:127.0.0.1", 80), ("127.0.0.1", 80), True),
    ],
)
def test_two_collide_when_they_cannot_both_listen(
    there: tuple[str, int], wanted: tuple[str, int], collides: bool
) -> None:
    assert Listener(*there, uid=0, inode=1).collides(*wanted) is collides


def test_the_holder_of_a_real_socket_is_found_and_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        (found,) = [listener for listener in listeners() if listener.collides("127.0.0.1", port)]
        pid = holders([found.inode])[found.inode]
        assert pid == os.getpid()
        described = describe_holder(found, pid)
    assert f"process {os.getpid()} of user {user_name(os.geteuid())}" in described
    assert holders([found.inode], pids=[1]) == {} or os.getpid() == 1


def test_a_holder_that_may_not_be_seen_is_named_by_its_user() -> None:
    assert describe_holder(Listener("127.0.0.1", 80, 0, 1), None) == "a process of user root"
