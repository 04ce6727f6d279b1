# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans for the programs, and the end of a wait; the integration tests use the real supervisord."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host import waiting
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.errors import HostError
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.processes import Process
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.services import (
    Health,
    Home,
    Initialise,
    Orphan,
    Plan,
    Program,
    Wish,
    World,
    plan_start,
    plan_stop,
    program_digest,
    read_record,
    supervisor_digest,
    supervisor_environment,
    supervisor_script,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.supervisor import (
    ProgramState,
    start_supervisord,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.waiting import (
    Awaited,
    Outcome,
    failure,
    log_tail,
    wait_for_all,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.shared.probes import Probe


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """Return a home with a store and an API that waits for it, as a deployment writes it."""
    found = Home(tmp_path, tmp_path / "bin")
    for folder in (found.wanted / "programs", found.given / "programs", tmp_path / "log", tmp_path / "data"):
        folder.mkdir(parents=True)
    (found.wanted / "supervisord.conf").write_text("[supervisord]\n")
    for name in ("store", "api"):
        found.wanted_program(name).write_text(f"[program:{name}]\n")
        (tmp_path / f"{name}.conf").write_text("a\n")
    return found


def programs(home: Home) -> list[Program]:
    return [
        Program("api", home.path, home.path / "log/api.log", (home.path / "api.conf",), start_order=1),
        Program("store", home.path, home.path / "log/store.log", (home.path / "store.conf",)),
    ]


def wish(home: Home, **words: object) -> Wish:
    return Wish(programs(home), **words)  # type: ignore[arg-type]


def state(name: str, word: str = "RUNNING") -> ProgramState:
    return ProgramState(name, word, 100, 5, "")


def running(*states: ProgramState) -> World:
    return World((10,), answers=True, states={found.name: found for found in states})


def record_all(home: Home, wanted: Wish) -> None:
    """Record the state of a run in which all services started."""
    home.applied_supervisor.write_text(json.dumps({"digest": supervisor_digest(home, wanted)}))
    home.config.write_bytes((home.wanted / "supervisord.conf").read_bytes())
    home.start_script.write_text(supervisor_script(home, wanted))
    for program in wanted.programs:
        home.given_program(program.name).write_bytes(home.wanted_program(program.name).read_bytes())
        home.applied(program.name).write_text(json.dumps({"digest": program_digest(home, program)}))


def test_unknown_names_are_refused_with_the_known_ones(home: Home) -> None:
    with pytest.raises(HostError, match="only: no such service: apii; there are api, store"):
        wish(home, only=frozenset({"apii"}))
    with pytest.raises(HostError, match="restart: no such service: catalog; there are api, store"):
        wish(home, restart=frozenset({"catalog"}), health={"catalog": Health(Probe("catalog", "http", url="x"), 1)})


def test_an_unknown_signal_is_refused_by_the_program_that_has_it(home: Home) -> None:
    with pytest.raises(HostError, match="x: stop_signal 'BYE' is not a signal"):
        assert Program("x", home.path, home.path, stop_signal="BYE").signal
    assert Program("x", home.path, home.path, stop_signal="SIGINT").signal is signal.SIGINT


def test_where_nothing_runs_everything_starts_in_order(home: Home) -> None:
    assert plan_start(home, wish(home), World()) == Plan(start=("store", "api"))


def test_where_everything_runs_as_recorded_nothing_is_done(home: Home) -> None:
    wanted = wish(home)
    record_all(home, wanted)
    plan = plan_start(home, wanted, running(state("store"), state("api")))
    assert plan == Plan()
    assert not plan.changes


@pytest.mark.parametrize("word", ["STOPPED", "EXITED", "FATAL", "UNKNOWN", "STOPPING"])
def test_a_program_that_does_not_run_is_started(home: Home, word: str) -> None:
    wanted = wish(home)
    record_all(home, wanted)
    assert plan_start(home, wanted, running(state("store", word), state("api"))) == Plan(start=("store",))


@pytest.mark.parametrize("word", ["STARTING", "BACKOFF", "RUNNING"])
def test_a_program_that_supervisord_is_about_to_bring_back_is_left_to_it(home: Home, word: str) -> None:
    wanted = wish(home)
    record_all(home, wanted)
    assert not plan_start(home, wanted, running(state("store", word), state("api"))).changes


@pytest.mark.parametrize(
    "change",
    [
        "content",
        "touched",
        "missing file",
        "description",
        "no record",
        "damaged record",
        "asked",
        "about to",
    ],
)
def test_a_program_is_restarted_when_it_may_have_read_something_else(home: Home, change: str) -> None:
    wanted = wish(home)
    record_all(home, wanted)
    path = home.path / "store.conf"
    if change == "content":
        path.write_text("b\n")
    elif change == "touched":
        os.utime(path, (1, 1))
    elif change == "missing file":
        path.unlink()
    elif change == "description":
        home.wanted_program("store").write_text("[program:store]\ncommand=other\n")
    elif change == "no record":
        home.applied("store").unlink()
    elif change == "damaged record":
        home.applied("store").write_text("[")
    elif change == "asked":
        wanted = wish(home, restart=frozenset({"store"}))
    else:
        wanted = wish(home, changed_paths=frozenset({path}))
    assert plan_start(home, wanted, running(state("store"), state("api"))) == Plan(restart=("store",))


@pytest.mark.parametrize(
    "change",
    [
        "environment",
        "configuration",
        "about to",
        "no record",
        "no answer",
        "copy",
        "script",
        "installed again",
        "about to be",
    ],
)
def test_supervisord_is_renewed_with_all_that_runs_under_it(home: Home, change: str) -> None:
    wanted = wish(home)
    record_all(home, wanted)
    world = running(state("store"), state("api", "EXITED"))
    if change == "environment":
        wanted = wish(home, environment={"HTTPS_PROXY": "http://proxy"})
    elif change == "configuration":
        (home.wanted / "supervisord.conf").write_text("[supervisord]\nminfds=9\n")
    elif change == "about to":
        wanted = wish(home, changed_paths=frozenset({home.wanted / "supervisord.conf"}))
    elif change == "no record":
        home.applied_supervisor.unlink()
    elif change == "copy":
        home.config.write_text("[supervisord]\nminfds=9\n")
    elif change == "script":
        home.start_script.write_text("#!/bin/sh\nexec other\n")
    elif change == "installed again":
        home.installation.write_text("{}")
    elif change == "about to be":
        wanted = wish(home, changed_paths=frozenset({home.installation}))
    else:
        world = World((10,), answers=False)
    plan = plan_start(home, wanted, world)
    assert plan.renew_supervisor
    assert plan.edited == {"copy": (home.config,), "script": (home.start_script,)}.get(change, ())
    assert {*plan.start, *plan.restart} == {"store", "api"}
    assert plan.restart == (() if change == "no answer" else ("store",))


def test_a_renewed_supervisord_starts_only_what_the_run_is_about(home: Home) -> None:
    """Later services may need the steps in between: a database that gets the new password of a rotation."""
    record_all(home, wish(home))
    wanted = wish(home, environment={"HTTPS_PROXY": "http://proxy"}, only=frozenset({"store"}))
    plan = plan_start(home, wanted, running(state("store"), state("api")))
    assert plan.renew_supervisor
    assert (plan.start, plan.restart) == ((), ("store",))


def test_only_the_chosen_are_started_and_nothing_is_removed(home: Home) -> None:
    plan = plan_start(home, wish(home, only=frozenset({"store"})), running(state("old")))
    assert (plan.start, plan.remove) == (("store",), ())
    assert plan_start(home, wish(home), running(state("old"))).remove == ("old",)


def test_a_file_that_supervisord_would_read_is_removed_unless_its_program_is_described(home: Home) -> None:
    wanted = wish(home)
    record_all(home, wanted)
    home.given_program("extra").write_text("[program:other]\ncommand=/bin/sh\n")
    assert plan_start(home, wanted, running(state("store"), state("api"))) == Plan(remove=("extra",))
    assert plan_start(home, wish(home, only=frozenset({"api"})), running(state("store"), state("api"))) == Plan()


@pytest.mark.parametrize("change", ["edited", "linked", "removed"])
def test_a_program_is_restarted_when_the_file_that_supervisord_reads_differs(home: Home, change: str) -> None:
    wanted, copy = wish(home), home.given_program("store")
    record_all(home, wanted)
    copy.unlink()
    if change == "edited":
        copy.write_text("[program:store]\ncommand=other\n")
    elif change == "linked":
        copy.symlink_to(home.wanted_program("store"))
    plan = plan_start(home, wanted, running(state("store"), state("api")))
    assert plan == Plan(restart=("store",), edited=(copy,))


def test_an_edited_file_is_named_whatever_the_run_is_about(home: Home) -> None:
    record_all(home, wish(home))
    home.given_program("api").write_text("[program:api]\ncommand=other\n")
    plan = plan_start(home, wish(home, only=frozenset({"store"})), running(state("store"), state("api")))
    assert plan == Plan(edited=(home.given_program("api"),))
    assert not plan.changes


def test_a_file_that_supervisord_has_still_to_be_given_is_not_edited(home: Home) -> None:
    """The state is that after the first of two steps, which has replaced supervisord."""
    wanted = wish(home)
    record_all(home, wanted)
    home.given_program("api").unlink()
    assert plan_start(home, wanted, running(state("store"))) == Plan(start=("api",))


def test_a_program_with_a_second_process_is_started_anew(home: Home) -> None:
    wanted = wish(home)
    record_all(home, wanted)
    doubled = replace(state("store"), processes=2)
    assert plan_start(home, wanted, running(doubled, state("api"))) == Plan(restart=("store",))


def test_data_is_initialised_when_missing_or_cut_off_and_only_before_a_start(home: Home) -> None:
    step = Initialise("store", ("initdb",), home.path / "data/VERSION")
    wanted = wish(home, initialise=[step])
    record_all(home, wanted)
    assert plan_start(home, wanted, World()).initialise == ("store",)
    assert plan_start(home, wanted, running(state("store"), state("api"))).initialise == ()
    step.creates.write_text("17\n")
    assert plan_start(home, wanted, World()).initialise == ()
    home.initialising("store").write_text("")
    assert plan_start(home, wanted, World()).initialise == ("store",)


def test_stopping_is_planned_for_what_runs_and_absence_for_everything(home: Home) -> None:
    orphan = Orphan("store", Process(5, 1, 5, 0, 0))
    world = World((10,), True, {"store": state("store"), "api": state("api", "EXITED"), "old": state("old")}, (orphan,))
    assert plan_stop(wish(home), world, absent=False) == Plan(stop=("store",), orphans=(orphan,))
    assert plan_stop(wish(home), world, absent=True) == Plan(
        stop=("old", "store"), renew_supervisor=True, orphans=(orphan,)
    )
    assert not plan_stop(wish(home), World(), absent=True).changes


def test_the_environment_is_the_same_whoever_deploys(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    assert supervisor_environment(home, {"TZ": "Europe/Berlin"}) == {
        "PATH": f"{home.bin}:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(home.path),
        "LANG": "C.UTF-8",
        "TZ": "Europe/Berlin",
    }


@pytest.mark.parametrize("content", [None, b"", b"[]", b"{", b"\xff", b"5"])
def test_a_record_that_cannot_be_read_is_an_empty_one(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "x.applied"
    if content is not None:
        path.write_bytes(content)
    assert read_record(path) == {}


def test_patience_is_the_start_period_and_every_retry() -> None:
    check = {"service": "x", "type": "tcp", "address": "h", "port": 1}
    assert Health.from_mapping({**check, "start_period_s": 60, "interval_s": 5, "retries": 4}).patience_s == 80
    assert Health.from_mapping(check).patience_s == 30


class Faked:
    """A supervisord with scripted answers; the last one is repeated."""

    answers: list[dict[str, ProgramState]]

    def __init__(self, path: Path) -> None:
        self.path = path

    def states(self) -> dict[str, ProgramState]:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def wait(monkeypatch: pytest.MonkeyPatch, *words: str, timeout_s: float = 60.0) -> Outcome:
    Faked.answers = [{"api": ProgramState("api", word, 1, 1, "no such file")} if word else {} for word in words]
    monkeypatch.setattr(waiting, "Supervisor", Faked)
    (outcome,) = wait_for_all(Path("/x"), [Awaited("api", True, None)], time.monotonic() + timeout_s)
    return outcome


@pytest.mark.parametrize(
    ("word", "problem"),
    [
        ("FATAL", "the program ended again and again, and supervisord has given up: no such file"),
        ("", "supervisord does not know the program"),
    ],
)
def test_a_wait_that_is_in_vain_ends_at_once(monkeypatch: pytest.MonkeyPatch, word: str, problem: str) -> None:
    outcome = wait(monkeypatch, word)
    assert outcome.problem == problem
    assert outcome.waited_s < 50


def test_a_wait_ends_at_the_deadline_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = wait(monkeypatch, "BACKOFF", timeout_s=0.4)
    problem = r"not healthy after \d+ s: the program ends right after its start: no such file"
    assert re.fullmatch(problem, outcome.problem)
    assert outcome.waited_s < 50


def test_time_in_which_a_program_waits_for_a_processor_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "starved_s", lambda pid: 60.0 * pid)
    states = ["STARTING"] * 6 + ["RUNNING"]
    assert wait(monkeypatch, *states, timeout_s=0.2).problem == ""
    monkeypatch.setattr(waiting, "starved_s", lambda _pid: 0.0)
    assert wait(monkeypatch, *states, timeout_s=0.2).problem.startswith("not healthy after")


def test_a_program_that_comes_up_in_the_end_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    assert wait(monkeypatch, "STARTING", "BACKOFF", "RUNNING").problem == ""


def test_waiting_for_nothing_takes_no_thread() -> None:
    assert wait_for_all(Path("/x"), [], 0.0) == []


def test_the_end_of_a_log_is_shown_without_secrets_from_this_start_on(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    assert "no log" in log_tail(log, {})
    log.write_text("")
    assert log_tail(log, {}) == f"(the log {log} is empty)"
    log.write_text("before\n")
    size = log.stat().st_size
    log.write_text("before\n" + "".join(f"line {number} pass-word-1\n" for number in range(30)))
    tail = log_tail(log, {"pw": "pass-word-1"}, size)
    assert tail.splitlines()[0] == "line 10 ${secret_value.pw}"
    assert len(tail.splitlines()) == 20
    log.write_bytes(b"\xff\xfe binary\n")
    assert "binary" in log_tail(log, {}, since_byte=10**6)


def test_a_failure_tells_the_reason_the_log_and_what_was_held_back() -> None:
    outcomes = [Outcome("store", "it is ill", 3.0), Outcome("catalog", "refused", 3.0)]
    message = failure(outcomes, {"store": "last words", "catalog": ""}.__getitem__, ["api", "worker"])
    assert message == (
        "store: it is ill\nlast words\n\ncatalog: refused\n\nnot started, since they start after it: api, worker"
    )


def test_a_supervisord_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="/nonexistent/supervisord: is not an executable program; install the software"):
        start_supervisord(["/nonexistent/supervisord"], {}, tmp_path / "socket")
