# SPDX-License-Identifier: GPL-3.0-or-later
"""`lakehouse-launch` passes a private file's variables to a program literally, shows none, and releases locks."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import postgres
import pytest
import services
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sweep import examples

from crypto_lakehouse.launch import LaunchError, main, read_environment_file, take_over

SECRET = "hunter2"
DUMP = "import json, os, sys; json.dump([dict(os.environ), sys.argv[1:]], sys.stdout)"


def private(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(0o600)
    return path


def launch(path: Path, *command: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-I", "-m", "crypto_lakehouse.launch", "--environment-file", str(path), "--", *command]
    return subprocess.run(line, capture_output=True, text=True, env={"PATH": os.environ["PATH"]}, check=False)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o660, 0o666, 0o601])
def test_a_file_that_others_can_open_is_refused(tmp_path: Path, mode: int) -> None:
    path = private(tmp_path / "environment", f"PASSWORD={SECRET}\n")
    path.chmod(mode)
    with pytest.raises(LaunchError, match="chmod 600"):
        read_environment_file(str(path))


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (f"{SECRET}\n", "line 1: expected NAME=value"),
        (f"A=1\n\n2B={SECRET}\n", "line 3: expected NAME=value"),
        (f"export A={SECRET}\n", "line 1: expected NAME=value"),
        (f" A={SECRET}\n", "line 1: expected NAME=value"),
        (f"={SECRET}\n", "line 1: expected NAME=value"),
        (f"A={SECRET}\nA=1\n", "line 2: A is given twice"),
        (f"A={SECRET}\0\n", "line 1: A holds a NUL byte"),
        (f"A={SECRET}".encode() + b"\xff\n", "not UTF-8"),
    ],
)
def test_a_malformed_file_is_refused_by_its_place_without_its_values(
    tmp_path: Path, content: str | bytes, place: str
) -> None:
    path = private(tmp_path / "environment", content)
    done = launch(path, "true")
    assert done.returncode == 64
    assert place in done.stderr
    assert SECRET not in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe"])
def test_what_is_not_a_regular_file_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "environment"
    if kind == "folder":
        path.mkdir(mode=0o700)
    elif kind == "pipe":
        os.mkfifo(path, 0o600)
    started = time.monotonic()
    assert main(["--environment-file", str(path), "--", "true"]) == 64
    assert time.monotonic() - started < 60


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_refused(tmp_path: Path) -> None:
    path = private(tmp_path / "environment", "A=1\n")
    os.chown(path, 65534, 65534)
    with pytest.raises(LaunchError, match="another user"):
        read_environment_file(str(path))


def test_a_program_that_does_not_exist_is_named(tmp_path: Path) -> None:
    path = private(tmp_path / "environment", f"PASSWORD={SECRET}\n")
    done = launch(path, "no-such-program", "--flag")
    assert done.returncode == 126
    assert "no-such-program: command not found" in done.stderr
    assert SECRET not in done.stderr


def test_a_command_without_the_separator_is_refused(tmp_path: Path) -> None:
    path = private(tmp_path / "environment", "A=1\n")
    with pytest.raises(SystemExit) as caught:
        main(["--environment-file", str(path), "true"])
    assert caught.value.code == 2


def test_values_and_arguments_arrive_literally(tmp_path: Path) -> None:
    content = '# a comment\n\nA=  two words  \nB="quoted" # kept\nC=a=b=$HOME `id` \\n %s\nD=\nÜ=1\n'
    path = private(tmp_path / "environment", content.replace("Ü=1\n", "E=ünï 🚀\r\n"))
    done = launch(path, sys.executable, "-I", "-c", DUMP, "--", "-x", "a b", "--environment-file")
    environment, arguments = json.loads(done.stdout)
    assert arguments == ["--", "-x", "a b", "--environment-file"]
    expected = {"A": "  two words  ", "B": '"quoted" # kept', "C": "a=b=$HOME `id` \\n %s", "D": "", "E": "ünï 🚀\r"}
    assert expected.items() <= environment.items()
    assert environment["PATH"] == os.environ["PATH"]


def test_the_program_takes_the_place_of_the_launcher(tmp_path: Path) -> None:
    path = private(tmp_path / "environment", "A=1\n")
    line = [sys.executable, "-I", "-m", "crypto_lakehouse.launch", "--environment-file", str(path), "--"]
    process = subprocess.Popen([*line, sys.executable, "-c", "import os; print(os.getpid())"], stdout=subprocess.PIPE)
    output, _errors = process.communicate(timeout=100)
    assert int(output) == process.pid


@settings(max_examples=examples(80), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.from_regex(r"\A[A-Za-z_][A-Za-z0-9_]*\Z"),
        st.text(st.characters(exclude_characters="\n\0", exclude_categories=["Cs"])),
        max_size=8,
    )
)
def test_any_text_without_a_newline_survives(tmp_path: Path, variables: dict[str, str]) -> None:
    content = "".join(f"{name}={value}\n" for name, value in variables.items())
    path = private(tmp_path / "environment", content)
    assert read_environment_file(str(path)) == variables


def test_nothing_but_the_standard_library_is_imported() -> None:
    probe = (
        "import sys; before = set(sys.modules); import crypto_lakehouse.launch; "
        "names = {name.split('.')[0] for name in set(sys.modules) - before}; "
        "print(sorted(names - set(sys.stdlib_module_names) - {'crypto_lakehouse'}))"
    )
    done = subprocess.run([sys.executable, "-I", "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_program_writes_to_its_log_itself_and_outlives_the_reader_of_its_output(tmp_path: Path) -> None:
    log = tmp_path / "program.log"
    log.write_text("before\n")
    code = "import sys, time; time.sleep(0.5); print('out', flush=True); print('error', file=sys.stderr)"
    line = [sys.executable, "-m", "crypto_lakehouse.launch", "--log-file", str(log), "--", sys.executable, "-c", code]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout
    process.stdout.close()
    assert process.wait(30) == 0
    assert log.read_text() == "before\nout\nerror\n"


def test_a_log_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    link = tmp_path / "link.log"
    link.symlink_to(tmp_path / "elsewhere")
    line = [sys.executable, "-m", "crypto_lakehouse.launch", "--log-file", str(link), "--", "true"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 64
    assert str(link) in done.stderr
    assert not (tmp_path / "elsewhere").exists()


def test_the_log_of_a_program_is_read_by_its_owner_alone(tmp_path: Path) -> None:
    log = tmp_path / "program.log"
    line = [sys.executable, "-m", "crypto_lakehouse.launch", "--log-file", str(log), "--", "true"]
    assert subprocess.run(line, check=False, umask=0).returncode == 0
    assert log.stat().st_mode & 0o777 == 0o600


def sessions(data: Path) -> list[str]:
    """Return the numbers of the processes that work in a data folder: sessions outlive a killed server for a moment."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (place / "cwd").samefile(data):
                found.append(place.name)
    return found


def test_a_database_starts_although_another_service_has_the_number_of_its_former_server() -> None:
    with postgres.postgres() as server:
        socket = server.folder / "socket"
        socket.mkdir()
        identity = services._database_user(server.folder)
        server.stop()
        server.options["unix_socket_directories"] = str(socket)
        server.start()
        server.execute("CREATE TABLE kept AS SELECT 42 AS number")
        server.stop(signal.SIGKILL)
        services.wait_until(lambda: not sessions(server.data), "the end of the sessions")
        locks = [server.data / "postmaster.pid", socket / f".s.PGSQL.{server.port}.lock"]
        with subprocess.Popen(["sleep", "900"], **identity) as other:
            for lock in locks:
                _former, rest = lock.read_text().split("\n", 1)
                lock.write_text(f"{other.pid}\n{rest}")
            with pytest.raises(RuntimeError, match=r'lock file "postmaster\.pid" already exists'):
                server.start()
            server.process = None

            def prepare() -> None:
                services._die_with_parent()
                for lock in locks:
                    take_over(str(lock))

            server.prepare = prepare
            server.start()
            assert server.execute("SELECT number FROM kept") == [(42,)]
            assert server.process
            # The lock of a running server is kept.
            assert [int(lock.read_text().split()[0]) for lock in locks] == [server.process.pid] * 2
            before = [lock.read_text() for lock in locks]
            for lock in locks:
                take_over(str(lock))
            assert [lock.read_text() for lock in locks] == before
            other.kill()


@pytest.mark.parametrize("content", [None, "", "no number\n/\n", "{gone}\n/nowhere\n", "{alive}\n"])
def test_a_lock_file_that_says_nothing_of_a_living_process_is_left(tmp_path: Path, content: str | None) -> None:
    lock = tmp_path / "postmaster.pid"
    with subprocess.Popen(["true"]) as ended, subprocess.Popen(["sleep", "900"]) as other:
        ended.wait()
        if content is not None:
            content = content.format(gone=ended.pid, alive=other.pid)
            lock.write_text(content)
        line = [sys.executable, "-m", "crypto_lakehouse.launch", f"--lock-file={lock}", "--", "true"]
        assert subprocess.run(line, check=True, capture_output=True).stderr == b""
        other.kill()
    assert (lock.read_text() if lock.exists() else None) == content


def test_a_lock_file_of_another_process_gets_the_number_of_the_program(tmp_path: Path) -> None:
    lock = tmp_path / "postmaster.pid"
    with subprocess.Popen(["sleep", "900"]) as other:
        lock.write_text(f"{other.pid}\n{tmp_path}\n1700000000\n5432\n")
        line = [sys.executable, "-m", "crypto_lakehouse.launch", f"--lock-file={lock}", "--", "sh", "-c", "echo $$"]
        done = subprocess.run(line, check=True, capture_output=True, text=True)
        other.kill()
    assert lock.read_text() == f"{done.stdout.strip()}\n{tmp_path}\n1700000000\n5432\n"
    assert lock.stat().st_mode & 0o777 == 0o600
    assert str(other.pid) in done.stderr
