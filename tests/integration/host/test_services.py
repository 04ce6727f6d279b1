# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.errors import HostError
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.processes import (
    environment_of,
    read_process,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.services import Health, Initialise
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.shared.probes import Probe
from tests.integration.host.conftest import Installation
from tests.integration.patience import is_within, stretched, wait_for

Port = Callable[[], int]


@pytest.fixture
def two(installation: Installation, free_port: Port) -> Installation:
    """Return a store, and an API that depends on it."""
    port = free_port()
    journal = str(installation.home.path / "journal")
    installation.add("store", port, "--journal", journal, "--start-delay-s", "0.3")
    installation.add("api", free_port(), "--journal", journal, "--needs", str(port), order=1)
    return installation


@pytest.fixture
def one(installation: Installation, free_port: Port) -> Installation:
    installation.add("store", free_port())
    return installation


def journal(installation: Installation) -> list[str]:
    path = installation.home.path / "journal"
    lines = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return lines


def test_programs_start_in_order_each_when_what_it_needs_is_well(two: Installation) -> None:
    report = two.deploy()
    assert report.plan.start == ("store", "api")
    assert journal(two) == ["store starts", "store answers", "api starts", "api answers"]
    assert {name: state.state for name, state in two.states().items()} == {"store": "RUNNING", "api": "RUNNING"}
    assert report.services["api"]["pid"] == two.pids()["api"]
    assert 0 < report.services["api"]["waited_s"] < 60


def test_a_second_run_changes_nothing_and_takes_no_time(one: Installation) -> None:
    one.deploy()
    pids = one.pids()
    begun = time.monotonic()
    report = one.deploy()
    assert is_within(begun, 4)
    assert not report.changed
    assert one.pids() == pids


def test_check_mode_predicts_the_run_and_touches_no_process(two: Installation) -> None:
    predicted = two.deploy(check_mode=True)
    assert not two.supervisor_pids()
    assert not list(two.home.run.iterdir())
    assert two.deploy().plan == predicted.plan
    (two.home.path / "etc/api.settings").write_text("second\n")
    pids = two.pids()
    predicted = two.deploy(check_mode=True)
    assert two.pids() == pids
    assert two.deploy().plan == predicted.plan
    assert predicted.plan.restart == ("api",)


def test_check_mode_knows_programs_whose_files_are_about_to_change(one: Installation) -> None:
    one.deploy()
    one.changed_paths = frozenset({one.home.path / "etc/store.settings"})
    assert one.deploy(check_mode=True).plan.restart == ("store",)
    one.changed_paths = frozenset({one.home.wanted_program("store")})
    assert one.deploy(check_mode=True).plan.restart == ("store",)


@pytest.mark.parametrize("what", ["settings", "description"])
def test_only_the_program_whose_files_changed_is_restarted(two: Installation, what: str) -> None:
    two.deploy()
    pids = two.pids()
    if what == "settings":
        (two.home.path / "etc/store.settings").write_text("second\n")
    else:
        two.set_word("store", "priority", "5")
    assert two.deploy().plan.restart == ("store",)
    assert two.pids()["store"] != pids["store"]
    assert two.pids()["api"] == pids["api"]
    assert not two.deploy().changed


def test_programs_that_restart_together_stop_in_the_opposite_order(two: Installation) -> None:
    two.deploy()
    journal(two)
    assert two.deploy(restart=("store", "api")).plan.restart == ("store", "api")
    assert journal(two) == [
        "api ends",
        "store ends",
        "store starts",
        "store answers",
        "api starts",
        "api answers",
    ]


def test_a_run_that_was_cut_off_between_writing_and_restarting_is_healed_by_the_next(one: Installation) -> None:
    one.deploy()
    (one.home.path / "etc/store.settings").write_text("second\n")
    one.home.applied("store").unlink()
    assert one.deploy().plan.restart == ("store",)
    assert "second" in (one.home.path / "log/store.log").read_text()


def test_a_program_that_does_not_come_up_is_named_with_its_last_words_and_holds_back_its_dependents(
    two: Installation,
) -> None:
    launch = f"{two.home.bin / 'lakehouse-launch'} --log-file {two.programs['store'].log_file} --"
    failing = f"{sys.executable} -c \"print('cannot open the vault: hunter2secret'); exit(3)\""
    two.set_word("store", "command", f"{launch} {failing}")
    two.set_word("store", "startretries", "1")
    # On a busy machine it takes seconds to end.
    two.set_word("store", "startsecs", "60")
    operator = two.operator(known={"vault_password": "hunter2secret"})
    with pytest.raises(HostError) as failed:
        operator.started(check_mode=False)
    message = str(failed.value)
    assert message.startswith("store: the program ended again and again, and supervisord has given up")
    assert "cannot open the vault: ${secret_value.vault_password}" in message
    assert "hunter2secret" not in message
    assert "not started, since they start after it: api" in message
    assert not two.home.applied("store").exists()
    assert "api" not in two.states()


def test_a_program_that_gave_up_is_started_again_when_its_reason_is_gone(one: Installation) -> None:
    one.set_word("store", "command", "/bin/false")
    one.set_word("store", "startretries", "0")
    one.set_word("store", "startsecs", "60")
    with pytest.raises(HostError, match="store: the program ended again and again"):
        one.deploy()
    assert one.states()["store"].state == "FATAL"
    one.add("store", int(one.url("store").rsplit(":", 1)[1].split("/")[0]))
    assert one.deploy().plan.start == ("store",)
    assert not one.deploy().changed


def test_a_service_that_runs_but_is_not_well_fails_with_what_was_seen(
    installation: Installation, free_port: Port
) -> None:
    installation.add("api", free_port(), "--status", "503", patience_s=stretched(1.5))
    begun = time.monotonic()
    with pytest.raises(HostError, match=r"api: not healthy after \d+ s: HTTP 503, expected 200"):
        installation.deploy()
    assert is_within(begun, 20)
    assert not installation.home.applied("api").exists()


def test_another_process_on_the_port_is_not_taken_for_the_service(installation: Installation, free_port: Port) -> None:
    port = free_port()
    settings = installation.home.path / "other.settings"
    settings.write_text("")
    server = Path(__file__).with_name("server.py")
    limit_s = stretched(2.0)
    installation.add("api", port, patience_s=limit_s)
    # A program that is slow to detect its occupied port does not count as running yet.
    installation.set_word("api", "startsecs", str(round(limit_s)))
    with subprocess.Popen([sys.executable, str(server), str(port), str(settings)]) as other:
        try:
            wait_for(lambda: _answers(port), "the other process answers")
            with pytest.raises(
                HostError, match=r"api: not healthy after .*the program (ends right|is in state STARTING)"
            ):
                installation.deploy()
        finally:
            other.terminate()


def _answers(port: int) -> bool:
    import socket

    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_killed_program_is_brought_back_by_supervisord_and_a_run_waits_for_it(one: Installation) -> None:
    one.deploy()
    os.kill(one.pids()["store"], signal.SIGKILL)
    report = one.deploy()
    assert not report.changed
    assert one.states()["store"].state == "RUNNING"


def test_a_killed_supervisord_leaves_nothing_behind_that_the_next_run_does_not_heal(two: Installation) -> None:
    two.deploy()
    before = two.pids()
    (old,) = two.supervisor_pids()
    os.kill(old, signal.SIGKILL)
    wait_for(lambda: not two.supervisor_pids(), "supervisord is gone")
    assert set(two.processes()) == set(before.values())
    predicted = two.deploy(check_mode=True)
    report = two.deploy()
    assert report.plan == predicted.plan
    assert sorted(orphan.program for orphan in report.plan.orphans) == ["api", "store"]
    assert report.plan.start == ("store", "api")
    assert not set(before.values()) & set(two.processes())
    assert set(two.processes()) == set(two.pids().values())
    assert len(two.supervisor_pids()) == 1
    assert not two.deploy().changed


def test_an_orphan_without_supervisords_environment_is_known_by_its_record_and_nothing_else_is_touched(
    one: Installation,
) -> None:
    one.set_word("store", "environment", 'SUPERVISOR_SERVER_URL="elsewhere"')
    one.deploy()
    store = one.pids()["store"]
    assert environment_of(store)["SUPERVISOR_SERVER_URL"] == "elsewhere"
    process = read_process(store)
    assert process is not None
    with subprocess.Popen([*process.command[:1], "-c", "import time; time.sleep(60)"]) as stranger:
        for pid in one.supervisor_pids():
            os.kill(pid, signal.SIGKILL)
        report = one.deploy()
        assert "store" in [orphan.program for orphan in report.plan.orphans]
        assert read_process(store) is None
        assert stranger.poll() is None
        stranger.kill()


def test_traces_of_a_reboot_are_no_obstacle(one: Installation) -> None:
    one.deploy()
    for pid in [*one.supervisor_pids(), *one.processes()]:
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not one.processes(), "nothing runs")
    # After a reboot the number in the pidfile may be that of any process.
    (one.home.run / "supervisord.pid").write_text(f"{os.getpid()}\n")
    assert one.home.socket.exists()
    assert one.deploy().plan.start == ("store",)
    assert not one.deploy().changed


@pytest.mark.parametrize("lost", ["socket", "pidfile", "both"])
def test_a_supervisord_that_lost_its_files_is_found_and_never_doubled(one: Installation, lost: str) -> None:
    one.deploy()
    (first,) = one.supervisor_pids()
    if lost in ("socket", "both"):
        one.home.socket.unlink()
    if lost in ("pidfile", "both"):
        (one.home.run / "supervisord.pid").unlink()
    one.deploy()
    assert len(one.supervisor_pids()) == 1
    assert (one.supervisor_pids() == [first]) == (lost == "pidfile")
    assert set(one.processes()) == set(one.pids().values())
    assert not one.deploy().changed


def test_two_runs_at_once_start_one_supervisord_and_each_program_once(two: Installation) -> None:
    failures: list[BaseException] = []

    def deploy() -> None:
        try:
            two.deploy()
        except BaseException as error:  # noqa: BLE001 - given to the test
            failures.append(error)

    threads = [threading.Thread(target=deploy) for _number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(two.supervisor_pids()) == 1
    assert journal(two) == ["store starts", "store answers", "api starts", "api answers"]


@pytest.mark.parametrize("after_s", [0.05, 0.4, 0.8, 1.5, 2.5])
def test_a_run_that_is_killed_at_any_moment_is_finished_by_the_next(two: Installation, after_s: float) -> None:
    child = os.fork()
    if not child:
        try:
            two.deploy()
        finally:
            os._exit(0)
    time.sleep(after_s)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    two.deploy()
    assert len(two.supervisor_pids()) == 1
    assert {name: state.state for name, state in two.states().items()} == {"store": "RUNNING", "api": "RUNNING"}
    assert set(two.processes()) == set(two.pids().values())
    assert not two.deploy().changed


def test_programs_find_a_clean_environment_and_nothing_of_the_shell(
    one: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of the shell")
    one.environment = {"HTTPS_PROXY": "http://proxy:3128"}
    one.deploy()
    environment = environment_of(one.pids()["store"])
    ours = {name: value for name, value in environment.items() if not name.startswith("SUPERVISOR_")}
    # Below a folder with a long name, the programs are shell scripts that contain its path.
    assert ours.pop("PWD", "/") in {"/", str(one.home.path)}
    assert ours == {
        "HOME": str(one.home.path),
        "HTTPS_PROXY": "http://proxy:3128",
        "LANG": "C.UTF-8",
        "PATH": f"{one.home.bin}:/usr/local/bin:/usr/bin:/bin",
        "TZ": "UTC",
    }


def test_supervisord_holds_nothing_of_the_process_that_started_it(one: Installation) -> None:
    one.deploy()
    (pid,) = one.supervisor_pids()
    assert [str(Path(f"/proc/{pid}/fd/{number}").readlink()) for number in range(3)] == ["/dev/null"] * 3
    assert os.getsid(pid) != os.getsid(0)
    files = {str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir()}
    own = {str(path.readlink()) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()}
    assert not {name for name in files & own if name.startswith(("pipe:", "socket:"))}


def test_another_environment_renews_supervisord_and_everything_under_it(two: Installation) -> None:
    two.deploy()
    (first,) = two.supervisor_pids()
    two.environment = {"SSL_CERT_FILE": "/etc/ssl/own.pem"}
    report = two.deploy()
    assert report.plan.renew_supervisor
    assert report.plan.restart == ("store", "api")
    assert two.supervisor_pids() != [first]
    assert environment_of(two.pids()["api"])["SSL_CERT_FILE"] == "/etc/ssl/own.pem"
    assert not two.deploy().changed


def test_a_file_that_was_edited_and_brought_back_restarts_its_program(one: Installation) -> None:
    one.deploy()
    settings = one.home.path / "etc/store.settings"
    settings.write_text("by hand\n")
    os.kill(one.pids()["store"], signal.SIGKILL)
    wait_for(lambda: "by hand" in (one.home.path / "log/store.log").read_text(), "the program runs again")
    settings.write_text("first\n")
    assert one.deploy().plan.restart == ("store",)
    assert not one.deploy().changed


def test_only_the_chosen_programs_are_started_and_the_rest_is_left_alone(two: Installation) -> None:
    report = two.deploy("store")
    assert report.plan.start == ("store",)
    assert list(two.states()) == ["store"]
    assert two.deploy().plan.start == ("api",)
    pids = two.pids()
    two.remove("api")
    assert not two.deploy("store").changed
    assert two.pids() == pids


def test_a_step_tells_whether_the_rest_runs_as_described_and_is_well(two: Installation) -> None:
    settings = two.home.path / "etc/api.settings"
    assert not two.deploy("store").settled
    assert not two.deploy().settled, "the run itself started a program"
    assert two.deploy("store").settled
    assert two.deploy("store", check_mode=True).settled
    settings.write_text("second\n")
    assert not two.deploy("store").settled
    two.deploy()
    well = two.health["api"]
    two.health["api"] = Health(Probe("api", "tcp", address="127.0.0.1", port=9), 60.0)
    assert not two.deploy("store").settled
    two.health["api"] = well
    two.remove("api")
    assert not two.deploy("store").settled, "a program runs that is not described"


def test_an_unknown_name_is_an_error_that_lists_the_known_ones(two: Installation) -> None:
    with pytest.raises(HostError, match="only: no such service: stores; there are api, store"):
        two.deploy("stores")
    with pytest.raises(HostError, match="restart: no such service: x"):
        two.deploy(restart=("x",))


def test_a_program_that_is_no_longer_described_is_stopped_and_removed(two: Installation) -> None:
    two.deploy()
    two.remove("api")
    report = two.deploy()
    assert report.plan.remove == ("api",)
    assert list(two.states()) == ["store"]
    assert not two.home.applied("api").exists()
    assert set(two.processes().values()) == {"store"}
    assert not two.deploy().changed


def test_stopping_leaves_supervisord_and_is_done_once(two: Installation) -> None:
    two.deploy()
    journal(two)
    report = two.operator().stopped(check_mode=False)
    assert report.plan.stop == ("store", "api")
    assert journal(two) == ["api ends", "store ends"]
    assert len(two.supervisor_pids()) == 1
    assert not two.operator().stopped(check_mode=False).changed
    assert two.deploy().plan.start == ("store", "api")


def test_removal_ends_the_last_process_of_every_program(installation: Installation, free_port: Port) -> None:
    installation.add("store", free_port(), "--child", "--stop-delay-s", "1")
    installation.deploy()
    assert len(installation.processes()) == 2
    predicted = installation.operator().stopped(check_mode=True, absent=True)
    assert len(installation.processes()) == 2
    report = installation.operator().stopped(check_mode=False, absent=True)
    assert report.plan == predicted.plan
    assert not installation.processes()
    assert not installation.supervisor_pids()
    assert not list(installation.home.run.iterdir())
    assert not installation.operator().stopped(check_mode=False, absent=True).changed


def test_removal_without_any_description_and_after_a_kill_still_ends_everything(one: Installation) -> None:
    one.deploy()
    for pid in one.supervisor_pids():
        os.kill(pid, signal.SIGKILL)
    one.programs.clear()
    one.health.clear()
    assert one.operator().stopped(check_mode=False, absent=True).changed
    assert not one.processes()


def test_removal_where_nothing_was_ever_started_changes_nothing(installation: Installation) -> None:
    assert not installation.operator().stopped(check_mode=False, absent=True).changed


def test_a_program_that_ignores_its_signal_is_killed_by_supervisord(
    installation: Installation, free_port: Port
) -> None:
    installation.add("store", free_port(), "--stop-delay-s", "60")
    installation.set_word("store", "stopwaitsecs", "1")
    installation.deploy()
    begun = time.monotonic()
    installation.operator().stopped(check_mode=False)
    assert is_within(begun, 30)
    assert not installation.processes()


def test_data_is_initialised_once_before_the_first_start(one: Installation) -> None:
    volume = one.home.path / "data/store"
    volume.mkdir(parents=True)
    script = f"umask; date +%N >> {volume}/runs; echo 1 > {volume}/VERSION"
    one.initialise = [Initialise("store", ("/bin/sh", "-c", script), volume / "VERSION")]
    assert one.deploy(check_mode=True).plan.initialise == ("store",)
    assert one.deploy().plan.initialise == ("store",)
    assert not one.deploy().changed
    one.operator().stopped(check_mode=False)
    assert one.deploy().plan.initialise == ()
    assert len((volume / "runs").read_text().splitlines()) == 1


def test_an_initialisation_that_was_cut_off_is_begun_anew(one: Installation) -> None:
    volume = one.home.path / "data/store"
    volume.mkdir(parents=True)
    half = f"echo 1 > {volume}/VERSION; mkdir {volume}/half; kill -9 $$"
    one.initialise = [Initialise("store", ("/bin/sh", "-c", half), volume / "VERSION")]
    with pytest.raises(HostError, match="store: its first-time setup ended with status -9"):
        one.deploy()
    whole = f"test ! -e {volume}/half && echo 2 > {volume}/VERSION"
    one.initialise = [Initialise("store", ("/bin/sh", "-c", whole), volume / "VERSION")]
    assert one.deploy().plan.initialise == ("store",)
    assert (volume / "VERSION").read_text() == "2\n"


def test_an_initialisation_that_outlives_a_killed_run_is_ended_before_it_is_begun_anew(one: Installation) -> None:
    volume = one.home.path / "data/store"
    volume.mkdir(parents=True)
    endless = f"echo $$ > {volume}/pid; sleep 60; touch {volume}/late"
    one.initialise = [Initialise("store", ("/bin/sh", "-c", endless), volume / "VERSION")]
    child = os.fork()
    if not child:
        try:
            one.deploy()
        finally:
            os._exit(0)
    wait_for(lambda: bool((volume / "pid").read_text()), "the setup runs")
    left = int((volume / "pid").read_text())
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert read_process(left) is not None
    one.initialise = [Initialise("store", ("/bin/sh", "-c", f"echo 1 > {volume}/VERSION"), volume / "VERSION")]
    assert one.deploy().plan.initialise == ("store",)
    assert read_process(left) is None
    assert [path.name for path in volume.iterdir()] == ["VERSION"]


def test_data_that_lost_its_version_file_is_never_removed(one: Installation) -> None:
    volume = one.home.path / "data/store"
    volume.mkdir(parents=True)
    (volume / "base").write_text("precious")
    one.initialise = [Initialise("store", ("/bin/true",), volume / "VERSION")]
    for _attempt in range(2):
        with pytest.raises(HostError, match=r"contains files, but VERSION is missing.*restore it from a backup"):
            one.deploy()
    assert (volume / "base").read_text() == "precious"


def test_a_service_in_another_ones_process_is_waited_for_as_well(one: Installation) -> None:
    one.health["catalog"] = Health(Probe("catalog", "http", url=one.url("store")), 5.0)
    assert one.deploy().services["catalog"]["state"] == "ANSWERS"
    one.health["catalog"] = Health(Probe("catalog", "tcp", address="127.0.0.1", port=9), 0.5)
    with pytest.raises(HostError, match=r"catalog: not healthy after .* connection refused"):
        one.deploy()


def test_a_supervisord_that_cannot_start_says_why(one: Installation) -> None:
    path = one.home.wanted / "supervisord.conf"
    path.write_text(path.read_text().replace("loglevel=info", "loglevel=loud"))
    with pytest.raises(HostError, match=r"supervisord does not start: Error: bad logging level name"):
        one.deploy()


def test_a_description_that_is_missing_says_so(two: Installation) -> None:
    two.home.wanted_program("api").unlink()
    with pytest.raises(HostError, match=r"programs/api\.conf: is missing; write the configuration first"):
        two.deploy()
