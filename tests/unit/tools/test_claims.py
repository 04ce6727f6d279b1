# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tools import claims
from tools.claims import ClaimError, claim
from tools.systemd_hosts import Podman

REPOSITORY = Path(__file__).resolve().parents[3]
# Claims the first free of three names, prints it, and holds it until its standard input ends.
HOLDER = """
import sys
from pathlib import Path
from tools.claims import claim
held = claim(["a", "b", "c"], folder=Path(sys.argv[1]))
held.note(sys.argv[2])
print(held.name, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "claims"


def start_holder(folder: Path, note: str = "") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder), note],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def said(holder: subprocess.Popen[str]) -> str:
    assert holder.stdout
    return holder.stdout.readline().strip()


def test_processes_that_claim_at_once_get_different_names(folder: Path) -> None:
    holders = [start_holder(folder) for _number in range(3)]
    try:
        assert {said(holder) for holder in holders} == {"a", "b", "c"}
        with pytest.raises(ClaimError, match="all are taken"):
            claim(["a", "b", "c"], folder=folder)
    finally:
        for holder in holders:
            holder.communicate()
    assert claim(["a"], folder=folder).name == "a"


def test_one_process_does_not_get_a_name_twice(folder: Path) -> None:
    first = claim(["a", "b"], folder=folder)
    second = claim(["a", "b"], folder=folder)
    assert (first.name, second.name) == ("a", "b")
    first.release()
    assert claim(["a", "b"], folder=folder).name == "a"


def test_a_killed_holder_holds_nothing_and_its_note_is_found(folder: Path) -> None:
    holder = start_holder(folder, "/tmp/lakehouse-of-a-killed-run")
    assert said(holder) == "a"
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    found = claim(["a"], folder=folder)
    assert found.noted() == "/tmp/lakehouse-of-a-killed-run"
    found.note("")
    assert found.noted() == ""


def test_a_program_that_the_holder_started_does_not_hold_the_claim(folder: Path) -> None:
    held = claim(["a"], folder=folder)
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE):
        held.release()
        assert claim(["a"], folder=folder).name == "a"


def test_a_name_that_is_not_usable_is_released(folder: Path) -> None:
    assert claim(["a", "b"], lambda found: found.name == "b", folder).name == "b"
    assert claim(["a"], folder=folder).name == "a"


def test_an_error_while_a_name_is_examined_releases_it(folder: Path) -> None:
    def fail(_found: claims.Claim) -> bool:
        raise ValueError("cannot look")

    with pytest.raises(ValueError, match="cannot look"):
        claim(["a"], fail, folder)
    assert claim(["a"], folder=folder).name == "a"


def test_files_of_a_stranger_are_neither_followed_nor_written(folder: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("years of work")
    folder.mkdir()
    (folder / "link").symlink_to(precious)
    (folder / "dangling").symlink_to(tmp_path / "new")
    os.mkfifo(folder / "pipe")
    (folder / "folder").mkdir()
    os.link(precious, folder / "hard")
    found = claim(["link", "dangling", "pipe", "folder", "hard"], folder=folder)
    assert found.name == "hard"
    found.note("/tmp/lakehouse-evil")
    assert found.noted() == ""
    assert precious.read_text() == "years of work"
    assert not (tmp_path / "new").exists()


def test_a_link_in_place_of_the_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    folder.symlink_to(tmp_path)
    with pytest.raises(ClaimError, match="is not a folder"):
        claim(["a"], folder=folder)


def test_every_user_may_claim_and_none_may_remove_the_file_of_another(folder: Path) -> None:
    claim(["a"], folder=folder).release()
    assert folder.stat().st_mode & 0o7777 == 0o1777
    assert (folder / "a").stat().st_mode & 0o777 == 0o644


def test_no_two_offsets_share_a_port() -> None:
    ports = claims.platform_ports()
    assert {8080, 18333, 19340} <= ports
    found = claims.offsets(ports, claims.ephemeral_from())
    assert len(found) >= 30
    every = [port + offset for offset in (0, *found) for port in ports]
    assert len(every) == len(set(every))
    assert max(every) < claims.SINGLE_PORTS.start


def test_offsets_stay_below_the_ports_of_outgoing_connections() -> None:
    assert claims.offsets(frozenset({1000, 2000}), 4500) == list(range(2000, 2500, 20))


def test_a_port_that_a_server_holds_is_not_claimed(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        monkeypatch.setattr(claims, "SINGLE_PORTS", (taken, 28_500, 28_501))
        monkeypatch.setattr(claims, "ephemeral_from", lambda: 65_536)
        port, held = claims.claim_port()
        assert port != taken
        held.release()


@pytest.fixture
def left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a lakehouse whose holder was killed during a playbook."""
    monkeypatch.setattr(claims, "TEMPORARY", tmp_path)
    folder = tmp_path / "lakehouse-left"
    (folder / "home").mkdir(parents=True)
    return folder


def test_leftovers_of_a_killed_run_are_removed_with_their_processes(left: Path) -> None:
    environment = {**os.environ, claims.FOLDER_VARIABLE: str(left)}
    with (
        subprocess.Popen(["sh", "-c", "sleep 600 & wait $!"], env=environment) as process,
        subprocess.Popen(["sleep", "600"]) as stranger,
    ):
        try:
            claims.clean(left, 0, "lakehouse-test-of-no-machine")
            # The shell may see that its child is killed before it is killed itself.
            assert process.wait() in (-signal.SIGKILL, 128 + signal.SIGKILL)
            assert stranger.poll() is None
        finally:
            process.kill()
            stranger.kill()
    assert not left.exists()


@pytest.mark.parametrize(("limit_s", "exit_code"), [(600.0, 0), (0.0, -signal.SIGKILL)])
def test_a_command_of_podman_ends_by_itself_before_the_hosts_are_removed(
    left: Path, monkeypatch: pytest.MonkeyPatch, limit_s: float, exit_code: int
) -> None:
    monkeypatch.setattr(claims, "COMMAND_LIMIT_S", limit_s)
    podman = Podman(left / "hosts")
    environment = {**os.environ, **podman.environment, claims.FOLDER_VARIABLE: str(left)}
    with subprocess.Popen(["podman", "2"], executable="/bin/sleep", env=environment) as command:
        try:
            claims.clean(left, 0, "lakehouse-test-of-no-machine")
            assert command.wait() == exit_code
        finally:
            command.kill()
    assert not left.exists()


def test_a_folder_that_no_run_made_is_never_removed(left: Path) -> None:
    other = left.parent / "thesis"
    other.mkdir()
    claims.clean(other, 0, "lakehouse-test-of-no-machine")
    assert other.exists()


def test_a_sweep_removes_leftovers_of_killed_runs_and_nothing_of_a_running_one(left: Path, folder: Path) -> None:
    living = left.parent / "lakehouse-living"
    living.mkdir()
    # Offsets outside of every lakehouse: the test must not remove a real user.
    holder = claim(["lakehouse-1"], folder=folder)
    holder.note(str(living))
    dead = claim(["lakehouse-3"], folder=folder)
    dead.note(str(left))
    dead.release()
    claims.sweep(folder)
    assert living.exists()
    assert not left.exists()
    assert claim(["lakehouse-3"], folder=folder).noted() == ""


def test_a_sweep_where_nothing_was_ever_claimed_does_nothing(folder: Path) -> None:
    claims.sweep(folder)
    assert not folder.exists()
