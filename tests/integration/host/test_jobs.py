# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs of a host as processes: their input, their end, and their state after their playbook was killed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host import store
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.jobs import Jobs
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.processes import read_process
from ansible_collections.crypto_lakehouse.platform.plugins.modules.host_services import end_jobs
from tests.integration.patience import HANG_S, wait_for
from tests.integration.playbook import kill

COLLECTIONS = Path(store.__file__).parents[6]
HERE = Path(__file__).parent
SECRET = "AGE-SECRET-KEY-1QQ7WKZ0Y3XH5"
PLAYBOOK = """
- hosts: all
  gather_facts: false
  vars:
    ansible_connection: local
  tasks:
    - name: Run the job
      crypto_lakehouse.platform.lakehouse_job: "{{ job }}"
      register: run
      failed_when: false
    - name: Keep what it returned
      ansible.builtin.copy:
        dest: "{{ returned }}"
        mode: "0600"
        content: "{{ run | to_json }}"
      check_mode: false
      diff: false
"""
# Runs a command, and prints the number of characters that it and its children read and wrote.
METER = """
import subprocess, sys
status = subprocess.run(sys.argv[2:]).returncode
with open(sys.argv[1], "w") as file:
    file.write(open("/proc/self/io").read())
sys.exit(status)
"""


@dataclass
class Shop:
    """A home without a lakehouse. Calls return the module's result."""

    folder: Path

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def pids(self) -> Path:
        return self.folder / "pids"

    @property
    def gate(self) -> Path:
        """Return a file for which jobs with `--until` wait."""
        return self.folder / "gate"

    def parameters(self, *arguments: str, **options: Any) -> dict[str, Any]:
        command = [sys.executable, str(HERE / "job.py")]
        given = {"name": "demo", "home": str(self.home), "command": command, "arguments": list(arguments)}
        return {**given, "poll": HANG_S, **options}

    def call(self, *arguments: str, **options: Any) -> dict[str, Any]:
        """Call the module once, without Ansible around it."""
        done = subprocess.run(
            [sys.executable, str(HERE / "call_job.py")],
            input=json.dumps(self.parameters(*arguments, **options)),
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(COLLECTIONS)},
            timeout=HANG_S,
            check=True,
        )
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def start(self, *arguments: str, **options: Any) -> dict[str, Any]:
        """Start a job that continues."""
        started = self.call(*arguments, f"--until={self.gate}", **{"poll": 0.0, **options})
        assert started["finished"] is False, started
        return started

    def command(self, parameters: dict[str, Any], *options: str) -> list[str]:
        """Write a playbook and return the command that runs it."""
        (self.folder / "play.yml").write_text(PLAYBOOK)
        variables = {"job": parameters, "returned": str(self.folder / "returned.json")}
        variables["ansible_python_interpreter"] = sys.executable
        (self.folder / "variables.json").write_text(json.dumps(variables))
        program = str(Path(sys.executable).parent / "ansible-playbook")
        return [
            program,
            "-i",
            "one,",
            "-e",
            f"@{self.folder / 'variables.json'}",
            *options,
            str(self.folder / "play.yml"),
        ]

    @property
    def environment(self) -> dict[str, str]:
        paths = {"ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS), "ANSIBLE_LOG_PATH": str(self.folder / "ansible.log")}
        return {**os.environ, **paths, "ANSIBLE_HOME": str(self.folder / "ansible"), "ANSIBLE_NOCOLOR": "1"}

    def play(self, parameters: dict[str, Any], *options: str, meter: Path | None = None) -> tuple[str, dict[str, Any]]:
        """Run the playbook; return its output, and the module's result."""
        command = self.command(parameters, *options)
        if meter:
            command = [sys.executable, "-c", METER, str(meter), *command]
        done = subprocess.run(
            command, capture_output=True, text=True, env=self.environment, timeout=HANG_S, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr, json.loads((self.folder / "returned.json").read_text())

    def watch(self, parameters: dict[str, Any], shown: str, release: Path) -> tuple[str, dict[str, Any]]:
        """Run the playbook as `play` does, and create a file after a line of its output contains a text."""
        lines = []
        with subprocess.Popen(
            self.command(parameters), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=self.environment
        ) as started:
            assert started.stdout
            for line in started.stdout:
                lines.append(line)
                if shown in line:
                    release.touch()
        assert started.returncode == 0, "".join(lines)
        return "".join(lines), json.loads((self.folder / "returned.json").read_text())

    def starts(self) -> list[int]:
        """Return the processes of the runs so far."""
        return [int(line) for line in self.pids.read_text().split()] if self.pids.exists() else []

    def record(self, run_id: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(next(self.home.glob(f"run/jobs/*/{run_id}/record.json")).read_text())
        return found


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    found = Shop(tmp_path)
    found.home.mkdir()
    yield found
    Jobs(found.home).end_all()
    left = [pid for pid in found.starts() if read_process(pid)]
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert not left


def is_gone(pid: int) -> bool:
    return read_process(pid) is None


def test_progress_is_shown_and_the_result_returned(shop: Shop) -> None:
    # On a loaded machine the steps would complete before the module's first read.
    release = shop.folder / "release"
    arguments = ("--steps=4", f"--until={release}", "--scratch", "--changed=bucket raw")
    parameters = shop.parameters(*arguments, scratch={"size": "1Mi"}, poll=0.5)
    output, run = shop.watch(parameters, "demo [one]: step", release)
    lines = [line.strip() for line in output.splitlines() if line.strip().startswith("demo [one]: ")]
    assert lines
    assert lines == list(dict.fromkeys(lines))
    assert all(re.fullmatch(r"demo \[one\]: step \d, \d of 4 objects(, .* left)?", line) for line in lines), lines
    assert (run["changed"], run["succeeded"], run["rc"], run["attached"]) == (True, True, 0, False)
    assert run["result"]["changed"] == ["bucket raw"]
    assert run["progress"]["objects"] == [4, 4]
    assert run["duration_s"] > 2
    assert "@" in run["owner"]
    scratch, mode, temporary = run["result"]["scratch"]
    assert Path(scratch).is_relative_to(shop.home)
    assert (mode, temporary) == ("700", scratch)
    assert not Path(scratch).exists()
    assert {path.stat().st_mode & 0o77 for path in shop.home.glob("run/jobs/**/*")} == {0}


def test_a_result_of_20_mb_arrives_whole_and_the_controller_carries_nothing_else(shop: Shop) -> None:
    carried, found = {}, {}
    for name, argument in {"moving": f"--move={256 << 20}", "result": "--rows=2000"}.items():
        parameters = shop.parameters(argument, scratch={"size": "300Mi"})
        _output, found[name] = shop.play(parameters, meter=shop.folder / name)
        assert found[name]["succeeded"], found[name]["msg"]
        told = dict(line.split(": ") for line in (shop.folder / name).read_text().splitlines())
        carried[name] = int(told["rchar"]) + int(told["wchar"])
    result = found["result"]["result"]
    assert len(json.dumps(result)) > 20_000_000
    for number, row in enumerate(result["rows"]):
        assert row == {"id": number, "text": hashlib.sha256(str(number).encode()).hexdigest() * 160}
    print({name: f"{size / 1e6:.1f} MB" for name, size in carried.items()})
    # Ansible reads half of that of its own files; the job wrote 256 MiB and read them.
    assert carried["moving"] < 64_000_000, carried
    assert carried["result"] > 20_000_000, carried


def _shown_by_the_system(secret: str) -> list[str]:
    found = []
    for folder in Path("/proc").iterdir():
        for name in ("cmdline", "environ") if folder.name.isdigit() else ():
            with contextlib.suppress(OSError):
                if secret.encode() in (folder / name).read_bytes():
                    found.append(f"{folder / name}")
    return found


def test_the_input_reaches_the_job_and_nobody_else(shop: Shop) -> None:
    parameters = shop.parameters("--input", f"--count={shop.pids}", f"--until={shop.gate}", input=SECRET, poll=1)
    command = shop.command(parameters, "-vvv")
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=shop.environment
    ) as playbook:
        wait_for(lambda: bool(shop.starts()), "the job runs")
        assert _shown_by_the_system(SECRET) == []
        kept = [path for path in shop.home.rglob("*") if path.is_file() and SECRET in path.read_text(errors="replace")]
        assert kept == []
        shop.gate.touch()
        output = playbook.communicate(timeout=HANG_S)[0]
    returned = (shop.folder / "returned.json").read_text()
    assert json.loads(returned)["result"]["input"] == hashlib.sha256(SECRET.encode()).hexdigest()
    assert [name for name, text in {"output": output, "result": returned}.items() if SECRET in text] == []
    assert SECRET not in (shop.folder / "ansible.log").read_text()


def test_the_end_of_the_log_of_a_job_that_failed_is_shown_without_secrets(shop: Shop) -> None:
    (shop.home / "secrets").mkdir()
    secrets = {"password": {"value": "hunter2hunter2", "kind": "password", "origin": "generated"}}
    (shop.home / "secrets/store.json").write_text(json.dumps({"version": 1, "secrets": secrets}))
    (shop.home / "secrets/store.json").chmod(0o600)
    run = shop.call("--betray", "--exit=3", input=f"{SECRET} and hunter2hunter2")
    assert (run["failed"], run["succeeded"], run["rc"]) == (True, False, 3)
    assert run["msg"].startswith("cannot run job demo: exit status 3. Read its log: ")
    assert run["log"][0].startswith("the input is ")
    assert SECRET not in json.dumps(run)
    assert "hunter2" not in json.dumps(run)
    # The result before the failure is returned too.
    assert run["result"]["changed"] == []


def test_a_killed_playbook_finds_the_job_that_it_left(shop: Shop) -> None:
    arguments = (f"--count={shop.pids}", f"--until={shop.gate}", "--rows=2")
    command = shop.command(shop.parameters(*arguments, poll=1, owner="jo@controller"))
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=shop.environment, start_new_session=True
    ) as playbook:
        wait_for(lambda: bool(shop.starts()), "the job runs")
        kill(playbook)
    (pid,) = shop.starts()
    assert not is_gone(pid)
    command = shop.command(shop.parameters(*arguments, poll=1))
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=shop.environment
    ) as playbook:
        assert playbook.stdout
        said = next(line for line in playbook.stdout if "waiting for the run" in line)
        shop.gate.touch()
        playbook.communicate(timeout=HANG_S)
    assert re.search(r"demo \[one\]: waiting for the run that was started at \S+Z by jo@controller", said)
    run = json.loads((shop.folder / "returned.json").read_text())
    assert (run["attached"], run["owner"], run["succeeded"]) == (True, "jo@controller", True)
    assert len(run["result"]["rows"]) == 2
    assert shop.starts() == [pid]
    # A completed one is not found again.
    assert not shop.call(f"--count={shop.pids}")["attached"]
    assert len(shop.starts()) == 2


def test_a_run_with_other_arguments_is_in_the_way_unless_it_is_replaced(shop: Shop) -> None:
    first = shop.start(f"--count={shop.pids}", owner="jo@controller")
    for options in ({}, {"running": "fail"}):
        other = shop.call(f"--count={shop.pids}", **options)
        assert other["failed"]
        assert f"since {first['started_at']}, started by jo@controller" in other["msg"]
        assert "`running: replace`" in other["remedy"]
    other = shop.call(f"--until={shop.gate}", f"--count={shop.pids}", running="fail")
    assert "has been running since" in other["msg"]
    (pid,) = shop.starts()
    replaced = shop.call(f"--count={shop.pids}", running="replace")
    assert replaced["succeeded"]
    assert is_gone(pid)
    waited = shop.call(run_id=first["run_id"])
    assert waited["reason"] == "cannot run job demo: another run replaced it"


def test_of_two_starts_at_once_one_attaches(shop: Shop) -> None:
    parameters = json.dumps(shop.parameters(f"--count={shop.pids}", f"--until={shop.gate}"))
    calls = [
        subprocess.Popen(
            [sys.executable, str(HERE / "call_job.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(COLLECTIONS)},
        )
        for _call in range(3)
    ]
    for call in calls:
        assert call.stdin
        call.stdin.write(parameters)
        call.stdin.close()
        call.stdin = None
    wait_for(lambda: bool(shop.starts()), "the job runs")
    shop.gate.touch()
    found = [json.loads(call.communicate(timeout=HANG_S)[0]) for call in calls]
    assert [run["succeeded"] for run in found] == [True] * 3
    # A read after the end starts another run.
    attached = sum(run["attached"] for run in found)
    assert len(shop.starts()) == 3 - attached


def test_at_its_deadline_a_job_ends_with_everything_that_it_started(shop: Shop) -> None:
    daemons = shop.folder / "daemons"
    run = shop.call(
        f"--daemon={daemons}", f"--count={shop.pids}", f"--until={shop.gate}", timeout=4, scratch={"size": "1Mi"}
    )
    assert run["reason"] == "cannot run job demo: it was ended at its deadline"
    assert "`timeout`" in run["remedy"]
    assert run["rc"] is None
    pids = [*shop.starts(), *map(int, daemons.read_text().split())]
    assert len(pids) == 2
    assert all(map(is_gone, pids))
    assert not list(shop.home.glob("run/jobs/demo/*/scratch"))


def test_a_job_that_ended_leaves_no_process(shop: Shop) -> None:
    daemons = shop.folder / "daemons"
    run = shop.call(f"--daemon={daemons}", f"--count={shop.pids}", "--steps=1")
    assert run["succeeded"]
    wait_for(lambda: all(map(is_gone, map(int, daemons.read_text().split()))), "the daemon is gone")


def test_a_job_whose_runner_was_killed_is_ended_and_reported(shop: Shop) -> None:
    started = shop.start(f"--count={shop.pids}")
    record = shop.record(started["run_id"])
    os.kill(record["pid"], signal.SIGKILL)
    wait_for(lambda: is_gone(record["pid"]), "the runner is gone")
    run = shop.call(run_id=started["run_id"])
    assert "its runner was killed, or the machine restarted" in run["msg"]
    assert all(map(is_gone, shop.starts()))


def test_a_run_before_the_last_boot_does_not_go_on(shop: Shop) -> None:
    started = shop.start(f"--count={shop.pids}")
    (path,) = shop.home.glob(f"run/jobs/demo/{started['run_id']}/record.json")
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "boot_id": "another"}))
    assert Jobs(shop.home).going() == []
    path.write_text(json.dumps({**record, "start_ticks": 1, "job_start_ticks": 1}))
    assert Jobs(shop.home).going() == []
    path.write_text(json.dumps(record))
    assert Jobs(shop.home).going() == ["demo"]


def test_check_mode_runs_nothing_or_the_job_with_other_arguments(shop: Shop) -> None:
    run = shop.call(f"--count={shop.pids}", _check_mode=True)
    assert (run["changed"], run["msg"]) == (True, "The job demo would run")
    assert not shop.starts()
    # A read-only run is concurrent to a running one.
    shop.start(f"--count={shop.pids}")
    looked = shop.call(f"--count={shop.pids}", check_arguments=["--scratch"], _check_mode=True)
    assert looked["succeeded"]
    assert looked["changed"] is False
    assert looked["result"]["arguments"] == ["--scratch"]
    assert len(shop.starts()) == 1


def test_jobs_end_with_the_lakehouse(shop: Shop) -> None:
    shop.start(f"--count={shop.pids}")
    assert end_jobs(shop.home, check_mode=True) == ["demo"]
    assert not any(map(is_gone, shop.starts()))
    assert end_jobs(shop.home, check_mode=False) == ["demo"]
    assert all(map(is_gone, shop.starts()))
    assert end_jobs(shop.home, check_mode=False) == []


def test_what_old_runs_left_is_removed(shop: Shop) -> None:
    for _run in range(3):
        assert shop.call("--scratch")["succeeded"]
    assert len(list(shop.home.glob("run/jobs/demo/*/end.json"))) == 1 + 1
    shop.call(check_arguments=["--scratch"], _check_mode=True)
    (old,) = shop.home.glob("run/jobs/demo-check-*")
    shop.call("--scratch")
    assert old.exists()
    os.utime(old, (0, 0))
    shop.call("--scratch")
    assert not old.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"command": ["/nonexistent/lakehouse"]}, "cannot start job demo: /nonexistent/lakehouse: No such file"),
        ({"scratch": {"size": "4000Ti"}}, "`scratch` needs"),
        ({"scratch": {"size": "4G"}}, "'4G' is not a size"),
        ({"name": "../demo"}, "its name is invalid"),
        ({"timeout": 0}, "`timeout` is 0"),
        ({"user": "nobody-else"}, "it must run as nobody-else"),
        ({"run_id": "00000000"}, "there is no run 00000000"),
        ({"home": "/proc/nowhere"}, "cannot start job demo: /proc/nowhere"),
    ],
)
def test_what_cannot_run_is_refused_with_a_remedy(shop: Shop, options: dict[str, Any], message: str) -> None:
    run = shop.call(**options)
    assert run["failed"], run
    assert message in run["msg"]
    assert run["remedy"]
    assert Jobs(shop.home).going() == []
