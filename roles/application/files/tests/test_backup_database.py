# SPDX-License-Identifier: GPL-3.0-or-later
"""Base backup, continuous WAL and recovery on a real server: rows of the restore point, and detection of faults."""

from __future__ import annotations

import gzip
import logging
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
import services
from backup_folder import Folder
from postgres import Postgres, postgres
from prometheus_client import CollectorRegistry
from psycopg.conninfo import make_conninfo
from sweep import choose

from crypto_lakehouse.backup.database.archive import (
    GapError,
    WalRequest,
    fetch_histories,
    fetch_wal,
    find_wal,
    wait_for_wal,
    wal_artifacts,
)
from crypto_lakehouse.backup.database.base import (
    ARCHIVE,
    DESCRIPTION,
    MANIFEST,
    Base,
    hash_file,
    reason_for_new_base,
    stored_bases,
    take_base,
)
from crypto_lakehouse.backup.database.pin import pin_database
from crypto_lakehouse.backup.database.programs import Deadline, DeadlineError, Programs
from crypto_lakehouse.backup.database.receiver import Receiver, ReceiverMetrics, ReceiverOptions, slot_name
from crypto_lakehouse.backup.database.recover import Recovery, recover, unpack
from crypto_lakehouse.backup.database.server import Server, ServerError
from crypto_lakehouse.backup.database.wal import parse_lsn, segment_key, segment_name, segment_number, stored_segments
from crypto_lakehouse.backup.errors import BackupError, IntegrityError, LockedError, RefusedError
from crypto_lakehouse.backup.model import Artifact, DatabasePin

SET = "20261130T080000Z-0a1b2c"
QUICK = ReceiverOptions(interval_s=3600, poll_s=0.1, assess_s=0)
DEADLINE_S = 240.0


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    with postgres() as server, leaks(server.passwords["backup"]) as found:
        yield server
        assert found == []
        assert server.passwords["backup"] not in server.log.read_text()


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as found:
        yield found


@contextmanager
def short_folder() -> Iterator[Path]:
    """Return a folder whose path is short enough for a socket, and which the server's user can access."""
    with tempfile.TemporaryDirectory(prefix="lk-") as name:
        Path(name).chmod(0o711)
        yield Path(name)


@contextmanager
def leaks(secret: str) -> Iterator[list[str]]:
    """Read the arguments of every process while the block runs; return the programs that showed the secret."""
    found: list[str] = []
    stopping = threading.Event()

    def watch() -> None:
        while not stopping.wait(0.05):
            for entry in os.scandir("/proc"):
                with suppress(OSError):
                    words = Path(entry.path, "cmdline").read_bytes() if entry.name.isdigit() else b""
                    found.extend([words.decode(errors="replace")] if secret.encode() in words else [])

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield found
    finally:
        stopping.set()
        thread.join()


@dataclass
class Running:
    """A receiver that runs in a thread, and the request of a backup run."""

    receiver: Receiver
    request: WalRequest | None = None


@contextmanager
def receiving(database: Postgres, destination: Folder, spool: Path, **options: object) -> Iterator[Running]:
    running = Running(
        Receiver(database.server, database.programs, destination, spool, replace(QUICK, **options))  # type: ignore[arg-type]
    )
    running.receiver.requested = lambda: running.request
    running.receiver.metrics = ReceiverMetrics(CollectorRegistry())
    stopping = threading.Event()
    thread = threading.Thread(target=running.receiver.run, args=(stopping,))
    thread.start()
    try:
        wait(lambda: running.receiver.state.slot == "streaming", "the receiver")
        yield running
    finally:
        stopping.set()
        thread.join()


def wait(ready: Callable[[], object], what: str) -> None:
    services.wait_until(ready, what, DEADLINE_S)


def back_up(database: Postgres, destination: Folder, scratch: Path) -> Base:
    """Create a base backup and store it."""
    scratch.mkdir()
    base = take_base(database.server, database.programs, scratch, DEADLINE_S)
    documents = {file.name: (scratch / file.name).read_bytes() for file in base.files}
    for name, content in {**documents, DESCRIPTION: base.to_bytes()}.items():
        destination.create(base.key(name), iter([content]), len(content), datetime.now(UTC))
    return base


def wal_until(running: Running, destination: Folder, base: Base, lsn: int) -> list[Artifact]:
    running.request = WalRequest(base.system_identifier, base.timeline, lsn)
    return wal_artifacts(destination, wait_for_wal(destination, base, lsn, Deadline(DEADLINE_S)))


def count(conninfo: str) -> tuple[int, int]:
    """Return number and highest id of the rows."""
    with psycopg.connect(conninfo) as connection:
        row = connection.execute("SELECT count(*), max(id) FROM kept").fetchone()
    assert row is not None
    return int(row[0]), int(row[1])


@dataclass(frozen=True)
class Archived:
    """A stored base backup, the WAL up to a restore point, and the destination of both."""

    base: Base
    pin: DatabasePin
    wal: list[Artifact]
    destination: Folder
    programs: Programs

    def recovery(self, folder: Path) -> Recovery:
        (folder / "wal").mkdir()
        fetch_wal(self.destination, self.wal, folder / "wal", self.base.segment_bytes)
        fetch_histories(self.destination, self.base.system_identifier, folder / "wal")
        shutil.copytree(self.destination.root / self.base.folder, folder / "files")
        return Recovery(self.base, self.pin, folder / "files", folder / "wal", folder / "new", folder / "run")


@pytest.fixture(scope="module")
def archived(database: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Archived:
    """Return a backup with 100 rows before the base backup, 50 up to the restore point, and 50 after it."""
    place = tmp_path_factory.mktemp("archived")
    destination = Folder(place / "destination")
    database.execute("CREATE TABLE kept (id int PRIMARY KEY)", "GRANT ALL ON kept TO lakehouse", name="lakehouse")
    database.execute("INSERT INTO kept SELECT generate_series(1, 100)", name="lakehouse")
    left_behind = {"recovery_target_xid": "1", "recovery_end_command": "exit 1", "restore_command": "exit 1"}
    database.execute(*(f"ALTER SYSTEM SET {name} = '{value}'" for name, value in left_behind.items()))
    with receiving(database, destination, place / "spool") as running:
        base = back_up(database, destination, place / "base")
        database.execute("ALTER SYSTEM RESET ALL")
        database.execute("SELECT pg_switch_wal()", "CREATE TABLE kept (id int)", "INSERT INTO kept VALUES (1)")
        database.execute("INSERT INTO kept SELECT generate_series(101, 150)", name="lakehouse")
        pin = pin_database(database.server, base, SET)
        database.execute("INSERT INTO kept SELECT generate_series(151, 200)", name="lakehouse")
        wal = wal_until(running, destination, base, parse_lsn(pin.lsn))
    return Archived(base, pin, wal, destination, database.programs)


@dataclass(frozen=True)
class Recovered:
    """A recovered data folder, and its server's rows of both databases and number of roles."""

    folder: Path
    rows: list[tuple[int, int]]
    roles: list[int]


@pytest.fixture(scope="module")
def recovered(archived: Archived) -> Iterator[Recovered]:
    rows: list[tuple[int, int]] = []
    roles: list[int] = []

    def check(conninfo: str) -> None:
        rows.extend([count_in(conninfo, "lakehouse"), count(conninfo)])
        with psycopg.connect(conninfo) as connection:
            query = "SELECT count(*) FROM pg_roles WHERE rolname IN ('lakehouse', 'orchestrator', 'backup')"
            roles.extend(int(number) for (number,) in connection.execute(query))

    with short_folder() as folder:
        yield Recovered(recover(archived.recovery(folder), archived.programs, check, DEADLINE_S), rows, roles)


def test_recovery_gives_exactly_the_rows_of_the_restore_point_from_an_unfinished_segment(
    archived: Archived, recovered: Recovered
) -> None:
    assert archived.wal[-1].key.endswith(".partial.gz")
    assert all(".partial" not in each.key for each in archived.wal[:-1])
    assert len(archived.wal) >= 2
    assert (recovered.rows, recovered.roles) == ([(150, 150), (1, 1)], [3])
    assert not (recovered.folder / "postmaster.pid").exists()
    assert not (recovered.folder / "recovery.signal").exists()


def test_a_restored_server_stores_its_wal_apart_and_leaves_the_archive_as_it_was(
    archived: Archived, recovered: Recovered, database: Postgres, folder: Path
) -> None:
    before = contents(archived.destination)
    (port,) = services.free_ports(1)
    restored = replace(database, data=recovered.folder, port=port, process=None)
    restored.start()
    try:
        with receiving(restored, archived.destination, folder / "spool") as running:
            assert running.receiver.state.needs_new_base
            base = back_up(restored, archived.destination, folder / "base")
            assert (base.system_identifier, base.timeline) == (archived.base.system_identifier, 2)
            restored.execute("INSERT INTO kept VALUES (1000)", name="lakehouse")
            pin = pin_database(restored.server, base, SET)
            wal = wal_until(running, archived.destination, base, parse_lsn(pin.lsn))
            slots = restored.execute("SELECT slot_name FROM pg_replication_slots")
            assert slots == [(slot_name(2),)]
            wait(lambda: not running.receiver.state.needs_new_base, "the new base")
    finally:
        restored.stop()
    assert wal[0].key == f"wal/{base.system_identifier}/00000002/00000002.history.gz"
    assert all(f"/{base.system_identifier}/00000002/" in each.key for each in wal)
    assert contents(archived.destination).items() >= before.items()
    rows: list[tuple[int, int]] = []
    second = replace(archived, base=base, pin=pin, wal=wal).recovery(folder)
    recover(second, database.programs, lambda found: rows.append(count_in(found, "lakehouse")), DEADLINE_S)
    assert rows == [(151, 1000)]


def test_no_timeline_is_used_twice_and_a_refused_server_is_ended(
    archived: Archived, recovered: Recovered, folder: Path
) -> None:
    system_identifier = archived.base.system_identifier
    history = (recovered.folder / "pg_wal" / "00000002.history").read_bytes()
    other = Folder(folder / "destination")
    shutil.copytree(archived.destination.root, other.root)
    key = segment_key(system_identifier, "00000002.history")
    content = gzip.compress(history, mtime=0)
    (other.root / key).unlink(missing_ok=True)
    other.create(key, iter([content]), len(content), datetime.now(UTC))
    timelines: list[str] = []

    def refuse(conninfo: str) -> None:
        with psycopg.connect(conninfo) as connection:
            row = connection.execute("SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)").fetchone()
            timelines.extend(row or ())
        raise BackupError("cannot accept the rows: they differ")

    with pytest.raises(BackupError, match="they differ"):
        recover(replace(archived, destination=other).recovery(folder), archived.programs, refuse, DEADLINE_S)
    assert timelines == ["00000003"]
    assert not processes_of(folder / "new")


def count_in(conninfo: str, name: str) -> tuple[int, int]:
    return count(make_conninfo(conninfo, dbname=name))


def contents(destination: Folder) -> dict[str, bytes]:
    return {each.key: (destination.root / each.key).read_bytes() for each in destination.list("")}


@pytest.mark.parametrize("part", ["archive", "manifest", "wal"])
def test_one_flipped_byte_is_found(archived: Archived, folder: Path, part: str) -> None:
    keys = {
        "archive": [archived.base.key(ARCHIVE)],
        "manifest": [archived.base.key(MANIFEST)],
        "wal": [each.key for each in archived.wal],
    }[part]
    damaged = Folder(folder / "destination")
    shutil.copytree(archived.destination.root, damaged.root)
    places = [(key, at) for key in keys for at in sample((damaged.root / key).stat().st_size)]
    for number, (key, at) in enumerate(choose(places, 4)):
        here = folder / str(number)
        here.mkdir()
        with flipped(damaged.root / key, at), pytest.raises(IntegrityError, match="cannot restore"):
            fetch_and_unpack(replace(archived, destination=damaged), here)


def fetch_and_unpack(archived: Archived, folder: Path) -> None:
    unpack(archived.recovery(folder), archived.programs, Deadline(DEADLINE_S))


def sample(size: int) -> list[int]:
    return sorted({0, 3, 9, size // 3, size // 2, size - 5, size - 1})


@contextmanager
def flipped(path: Path, at: int) -> Iterator[None]:
    original = path.read_bytes()
    path.write_bytes(original[:at] + bytes([original[at] ^ 1]) + original[at + 1 :])
    try:
        yield
    finally:
        path.write_bytes(original)


def test_a_damaged_file_is_found_after_unpacking_whatever_the_description_says(
    archived: Archived, folder: Path
) -> None:
    """The manifest of the base backup itself is the second proof."""
    found = archived.recovery(folder)
    other = found.files
    plain = other / "plain"
    subprocess.run(["mkdir", plain], check=True)
    subprocess.run(["tar", "-xzf", other / ARCHIVE, "-C", plain], check=True)
    target = plain / "global" / "pg_filenode.map"
    target.write_bytes(target.read_bytes()[:-1] + b"x")
    subprocess.run(["tar", "-czf", other / ARCHIVE, "-C", plain, "."], check=True)
    shutil.rmtree(plain)
    forged = replace(archived.base, files=tuple(hash_file(other / each.name) for each in archived.base.files))
    with pytest.raises(IntegrityError, match=r"checksum mismatch for file.*pg_filenode\.map"):
        unpack(replace(found, base=forged), archived.programs, Deadline(DEADLINE_S))


@pytest.mark.parametrize("kind", ["link", "outside", "device"])
def test_an_archive_that_would_write_elsewhere_is_refused(archived: Archived, folder: Path, kind: str) -> None:
    files = folder / "files"
    files.mkdir()
    member = tarfile.TarInfo("../outside" if kind == "outside" else "inside")
    if kind != "outside":
        member.type = tarfile.SYMTYPE if kind == "link" else tarfile.CHRTYPE
        member.linkname = "/etc/passwd"
    with tarfile.open(files / ARCHIVE, "w:gz") as archive:
        archive.addfile(member)
    shutil.copyfile(archived.destination.root / archived.base.key(MANIFEST), files / MANIFEST)
    base = replace(archived.base, files=tuple(hash_file(files / name) for name in (ARCHIVE, MANIFEST)))
    recovery = Recovery(base, archived.pin, files, folder, folder / "new", folder / "run")
    with pytest.raises(IntegrityError, match="its archive cannot be unpacked"):
        unpack(recovery, archived.programs, Deadline(DEADLINE_S))
    assert not (folder / "outside").exists()


def test_recovery_without_the_last_segment_fails_with_the_server_s_words(archived: Archived, folder: Path) -> None:
    found = replace(archived, wal=archived.wal[:-1]).recovery(folder)
    with pytest.raises(BackupError, match="recovery ended before configured recovery target was reached"):
        recover(found, archived.programs, lambda _conninfo: None, DEADLINE_S)


def processes_of(data: Path) -> list[str]:
    found = []
    for entry in os.scandir("/proc"):
        with suppress(OSError):
            words = Path(entry.path, "cmdline").read_bytes().decode(errors="replace") if entry.name.isdigit() else ""
            found += [words] if str(data) in words else []
    return found


@pytest.mark.parametrize("wrong", ["folder", "base", "early"])
def test_a_recovery_that_cannot_succeed_is_refused_before_anything_is_written(
    archived: Archived, folder: Path, wrong: str
) -> None:
    found = archived.recovery(folder)
    if wrong == "folder":
        found.folder.mkdir()
    pin = {
        "folder": archived.pin,
        "base": replace(archived.pin, base_id="20200101T000000Z-ffffff"),
        "early": replace(archived.pin, lsn="0/1"),
    }[wrong]
    with pytest.raises(RefusedError, match="cannot recover"):
        recover(replace(found, pin=pin), archived.programs, lambda _conninfo: None, DEADLINE_S)
    assert list(found.folder.iterdir()) == [] if wrong == "folder" else not found.folder.exists()


def test_a_restart_of_the_database_fails_the_base_backup_and_the_next_one_succeeds(
    database: Postgres, tmp_path: Path
) -> None:
    database.execute("CREATE TABLE bulk AS SELECT gen_random_uuid()::text AS a FROM generate_series(1, 300000)")
    problems: list[BackupError] = []
    (tmp_path / "first").mkdir()

    def attempt() -> None:
        try:
            take_base(database.server, database.programs, tmp_path / "first", DEADLINE_S)
        except BackupError as error:
            problems.append(error)

    thread = threading.Thread(target=attempt)
    thread.start()
    wait(lambda: (tmp_path / "first" / ARCHIVE).stat().st_size > 0, "the base backup")
    database.stop(signal.SIGQUIT)
    thread.join()
    try:
        with pytest.raises(ServerError, match="cannot use the database server"):
            take_base(database.server, database.programs, tmp_path / "first", DEADLINE_S)
    finally:
        database.start()
    assert [type(each) for each in problems] in ([BackupError], [ServerError])
    assert database.passwords["backup"] not in str(problems[0])
    database.execute("DROP TABLE bulk")
    (tmp_path / "second").mkdir()
    base = take_base(database.server, database.programs, tmp_path / "second", DEADLINE_S)
    assert Base.from_bytes(base.to_bytes()) == base


def test_a_restarted_database_is_received_further(database: Postgres, tmp_path: Path) -> None:
    destination, spool = Folder(tmp_path / "destination"), tmp_path / "spool"
    with receiving(database, destination, spool) as running:
        base = back_up(database, destination, tmp_path / "base")
        database.execute("CREATE TABLE IF NOT EXISTS bulky (a text)", "SELECT pg_switch_wal()")
        database.stop(signal.SIGQUIT)
        try:
            wait(lambda: running.receiver.state.slot == "unreachable", "the report of the stopped server")
            assert "cannot use the database server" in running.receiver.state.problem
        finally:
            database.start()
        pin = pin_database(database.server, base, SET)
        wal_until(running, destination, base, parse_lsn(pin.lsn))
        wait(lambda: not running.receiver.state.problem, "the end of the problem")


def test_an_unfinished_segment_is_stored_at_the_interval_and_only_when_it_grew(
    database: Postgres, tmp_path: Path
) -> None:
    destination = Folder(tmp_path / "destination")
    with receiving(database, destination, tmp_path / "spool", interval_s=0.3):
        base = back_up(database, destination, tmp_path / "base")
        pin = pin_database(database.server, base, SET)
        wait_for_wal(destination, base, parse_lsn(pin.lsn), Deadline(DEADLINE_S))
    partial = [key for key in destination.created if ".partial" in key]
    assert partial
    assert len(partial) == len(set(partial)), "an object of the same end is not stored twice"


PARTS = 4


def test_each_byte_of_an_unfinished_segment_is_stored_once_and_recovery_reads_its_parts(
    archived: Archived, database: Postgres, folder: Path
) -> None:
    destination = Folder(folder / "destination")
    with receiving(database, destination, folder / "spool", interval_s=0) as running:
        base = back_up(database, destination, folder / "base")
        database.execute("SELECT pg_switch_wal()")
        (before,) = database.execute("SELECT count(*), max(id) FROM kept", name="lakehouse")
        for _number in range(PARTS):
            database.execute("INSERT INTO kept SELECT max(id) + 1 FROM kept", name="lakehouse")
            ((text,),) = database.execute("SELECT pg_current_wal_flush_lsn()::text")
            wait_for_wal(destination, base, parse_lsn(text), Deadline(DEADLINE_S))
        pin = pin_database(database.server, base, SET)
        found = wait_for_wal(destination, base, parse_lsn(pin.lsn), Deadline(DEADLINE_S))
        assert running.request is None
    parts = [each for each in stored_segments(found) if each.start is not None]
    assert len(parts) > PARTS
    begin = segment_number(parts[0].name, base.segment_bytes) * base.segment_bytes
    assert [each.start for each in parts] == [begin, *(each.end for each in parts[:-1])]
    restored = replace(archived, base=base, pin=pin, wal=wal_artifacts(destination, found), destination=destination)
    rows: list[tuple[int, int]] = []
    recover(
        restored.recovery(folder),
        database.programs,
        lambda conninfo: rows.append(count_in(conninfo, "lakehouse")),
        DEADLINE_S,
    )
    assert rows == [(before[0] + PARTS, before[1] + PARTS)]


def test_a_run_needs_one_object_of_an_unfinished_segment(database: Postgres, tmp_path: Path) -> None:
    destination = Folder(tmp_path / "destination")
    with receiving(database, destination, tmp_path / "spool", interval_s=0) as running:
        base = back_up(database, destination, tmp_path / "base")
        database.execute("SELECT pg_switch_wal()", "CREATE TABLE parts (id int)", "DROP TABLE parts")
        ((text,),) = database.execute("SELECT pg_current_wal_flush_lsn()::text")
        wait_for_wal(destination, base, parse_lsn(text), Deadline(DEADLINE_S))
        # As a run that pins a position which no interval reached yet.
        running.receiver.options = replace(running.receiver.options, interval_s=3600)
        pin = pin_database(database.server, base, SET)
        found = wal_until(running, destination, base, parse_lsn(pin.lsn))
    assert len([each for each in found if ".partial" in each.key]) == 1


def test_a_program_that_hangs_is_killed_with_its_children_at_the_deadline(tmp_path: Path) -> None:
    mark = f"{os.getpid()}.125"
    with pytest.raises(BackupError, match="cannot run sh: it did not end within"):
        Programs().run("sh", ["-c", f"sleep {mark} & sleep {mark}"], Deadline(0.5))
    wait(lambda: not processes_of(Path(mark)), "the end of the children")


_STARTS = """
import sys, time
from pathlib import Path
from prometheus_client import CollectorRegistry
from crypto_lakehouse.backup.database.programs import Programs
from crypto_lakehouse.backup.serve import Scheduler, SetMetrics
mark = sys.argv[1]
scheduler = Scheduler(["02:00"], ["/bin/sleep", mark], lambda: [], SetMetrics(CollectorRegistry()))
scheduler.step()
with open("/dev/null", "wb") as log:
    Programs(Path("/bin")).start("sleep", [mark], log)
print("started", flush=True)
time.sleep(600)
"""


def test_what_a_process_started_ends_with_it_also_where_it_is_killed() -> None:
    mark = f"{os.getpid()}.250"
    command = [sys.executable, "-c", _STARTS, mark]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout
        assert process.stdout.readline() == b"started\n"
        # Each is an interpreter first, which binds it to this process.
        wait(lambda: [each.partition("\0")[0] for each in processes_of(Path(mark))].count("/bin/sleep") == 2, "both")
        process.kill()
    wait(lambda: not processes_of(Path(mark)), "the end of both programs")


def test_a_recovery_that_takes_too_long_is_no_damage(archived: Archived, folder: Path) -> None:
    with pytest.raises(DeadlineError):
        recover(archived.recovery(folder), archived.programs, lambda _conninfo: None, 0)
    assert not processes_of(folder / "new")


def test_a_missing_program_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=f"cannot run pg_basebackup: it is not in {tmp_path}"):
        Programs(tmp_path).path("pg_basebackup")


def test_a_wrong_password_is_told_without_it(database: Postgres, caplog: pytest.LogCaptureFixture) -> None:
    wrong = Server(database.server.url.replace(database.passwords["backup"], "not-the-password"))
    with pytest.raises(ServerError, match="authentication failed") as refused:
        wrong.identify()
    assert "not-the-password" not in str(refused.value) + repr(wrong) + caplog.text


RECEIVER = """
import sys, threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from backup_folder import Folder
from crypto_lakehouse.backup.database.programs import Programs
from crypto_lakehouse.backup.database.receiver import Receiver, ReceiverOptions
from crypto_lakehouse.backup.database.server import Server
import os
tools, destination, spool = map(Path, sys.argv[1:])
options = ReceiverOptions(interval_s=3600, poll_s=0.1, assess_s=0)
Receiver(Server(os.environ["URL"]), Programs(tools), Folder(destination), spool, options).run(threading.Event())
"""


def test_a_killed_receiver_goes_on_without_a_gap(database: Postgres, tmp_path: Path) -> None:
    destination, spool = Folder(tmp_path / "destination"), tmp_path / "spool"
    words = [sys.executable, "-c", RECEIVER, str(database.tools), str(destination.root), str(spool)]
    path = os.pathsep.join(filter(None, sys.path))
    environment = {"PATH": os.environ["PATH"], "URL": database.server.url, "PYTHONPATH": path}
    with services.running(words, tmp_path / "receiver.log", env=environment) as process:
        wait(lambda: active(database), "the receiver")
        base = back_up(database, destination, tmp_path / "base")
        database.execute("CREATE TABLE killed (id int)", "SELECT pg_switch_wal()", "INSERT INTO killed VALUES (1)")
        wait(lambda: len(find_wal(destination, base).segments) >= 1, "the first segment")
        process.kill()
        process.wait()
    # It ends with its receiver, for any cause.
    wait(lambda: not active(database), "the end of pg_receivewal")
    for _number in range(3):
        database.execute("INSERT INTO killed VALUES (2)", "SELECT pg_switch_wal()")
    with receiving(database, destination, spool) as running:
        pin = pin_database(database.server, base, SET)
        found = wal_until(running, destination, base, parse_lsn(pin.lsn))
        assert len(found) >= 5
        os.kill(child(running), signal.SIGKILL)
        database.execute("INSERT INTO killed VALUES (3)", "SELECT pg_switch_wal()", "INSERT INTO killed VALUES (4)")
        pin = pin_database(database.server, base, SET)
        assert len(wal_until(running, destination, base, parse_lsn(pin.lsn))) >= len(found) + 1
        assert (running.receiver.state.gap, running.receiver.state.was_lost) == ("", False)


def active(database: Postgres) -> bool:
    return (slot_name(1), True) in database.execute("SELECT slot_name, active FROM pg_replication_slots")


def child(running: Running) -> int:
    stream = running.receiver._stream
    assert stream is not None
    assert stream.process is not None
    return stream.process.pid


def test_a_second_receiver_of_one_folder_is_refused(database: Postgres, tmp_path: Path) -> None:
    destination, spool = Folder(tmp_path / "destination"), tmp_path / "spool"
    with receiving(database, destination, spool) as running, pytest.raises(LockedError, match="another receiver"):
        running.receiver.run(threading.Event())


def test_a_destination_that_is_down_pauses_the_receiver_before_it_fills_the_disk(
    database: Postgres, tmp_path: Path
) -> None:
    destination, spool = Folder(tmp_path / "destination"), tmp_path / "spool"
    with receiving(database, destination, spool, spool_bytes=3 << 20) as running:
        base = back_up(database, destination, tmp_path / "base")
        destination.refused = True
        for _number in range(8):
            database.execute("CREATE TABLE IF NOT EXISTS bulky (a text)", "INSERT INTO bulky VALUES ('a')")
            database.execute("SELECT pg_switch_wal()")
        wait(lambda: running.receiver.state.slot == "waiting", "the pause")
        assert "no space left" in running.receiver.state.problem
        assert not active(database)
        assert running.receiver.state.lag_bytes > 3 << 20
        destination.refused = False
        pin = pin_database(database.server, base, SET)
        wal_until(running, destination, base, parse_lsn(pin.lsn))
        wait(lambda: running.receiver.state.problem == "", "the end of the problem")


def test_a_lost_slot_is_found_and_a_new_base_ends_the_gap(
    database: Postgres, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    destination, spool = Folder(tmp_path / "destination"), tmp_path / "spool"
    with receiving(database, destination, spool):
        base = back_up(database, destination, tmp_path / "base")
    database.execute("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'", "SELECT pg_reload_conf()")
    try:
        wait(lambda: lose(database), "the loss of the slot")
    finally:
        database.execute("ALTER SYSTEM RESET max_slot_wal_keep_size", "SELECT pg_reload_conf()")
    assert "the slot of the receiver is lost" in reason(database, destination, base)
    with receiving(database, destination, spool) as running:
        wait(lambda: running.receiver.state.gap, "the report of the gap")
        assert "WAL after the base backup is missing" in reason(database, destination, base)
        state = running.receiver.state
        assert (state.was_lost, state.needs_new_base) == (True, True)
        shown = series(running)
        assert (shown["lakehouse_backup_slot_lost"], shown["lakehouse_backup_wal_gap"]) == (1, 1)
        pin = pin_database(database.server, base, SET)
        running.request = WalRequest(base.system_identifier, base.timeline, parse_lsn(pin.lsn))
        with pytest.raises(GapError, match=f"base backup {base.id}: WAL segment [0-9A-F]{{24}} was never stored"):
            wait_for_wal(destination, base, parse_lsn(pin.lsn), Deadline(DEADLINE_S))
        newer = back_up(database, destination, tmp_path / "newer")
        assert stored_bases(destination, base.system_identifier)[0] == newer
        pin = pin_database(database.server, newer, SET)
        wal_until(running, destination, newer, parse_lsn(pin.lsn))
        wait(lambda: not running.receiver.state.needs_new_base, "the end of the gap")
        assert reason(database, destination, newer) == ""
        assert (running.receiver.state.gap, running.receiver.state.was_lost) == ("", False)
        shown = series(running)
        assert (shown["lakehouse_backup_slot_lost"], shown["lakehouse_backup_wal_gap"]) == (0, 0)
        assert shown["lakehouse_backup_wal_last_upload_timestamp_seconds"] > time.time() - DEADLINE_S
        assert shown["lakehouse_backup_wal_lag_bytes"] < 1 << 20
    assert f"slot {slot_name(1)} is lost" in caplog.text
    assert database.passwords["backup"] not in caplog.text


def reason(database: Postgres, destination: Folder, base: Base) -> str:
    """Return the reason of a backup run for a new base backup."""
    slot = database.server.read_slot(slot_name(base.timeline))
    wal = find_wal(destination, base)
    return reason_for_new_base(base, database.server.identify(), wal, timedelta(days=7), datetime.now(UTC), slot)


def lose(database: Postgres) -> bool:
    database.execute("SELECT pg_logical_emit_message(false, 'x', repeat('x', 1000))", "SELECT pg_switch_wal()")
    database.execute("CHECKPOINT")
    return (slot_name(1), "lost") in database.execute("SELECT slot_name, wal_status FROM pg_replication_slots")


def series(running: Running) -> dict[str, float]:
    metrics = running.receiver.metrics
    assert metrics is not None
    found = (metrics.lag, metrics.last_upload, metrics.slot_lost, metrics.gap)
    return {sample.name: sample.value for gauge in found for metric in gauge.collect() for sample in metric.samples}


def test_wal_of_two_servers_with_one_timeline_is_refused(database: Postgres, tmp_path: Path) -> None:
    destination, spool = Folder(tmp_path / "destination"), tmp_path / "spool"
    with receiving(database, destination, spool) as running:
        back_up(database, destination, tmp_path / "base")
        identity = database.server.identify()
        number = identity.lsn // identity.segment_bytes
        name = segment_name(identity.timeline, number, identity.segment_bytes)
        other = destination.root / segment_key(identity.system_identifier, name)
        other.parent.mkdir(parents=True, exist_ok=True)
        other.write_bytes(b"the WAL of a copy")
        database.execute("CREATE TABLE IF NOT EXISTS bulky (a text)", "INSERT INTO bulky VALUES ('a')")
        database.execute("SELECT pg_switch_wal()")
        wait(lambda: "two servers write the same timeline" in running.receiver.state.problem, "the refusal")
        assert running.receiver.state.gap == name
        assert other.read_bytes() == b"the WAL of a copy"


def test_the_wait_for_wal_ends_at_its_deadline(archived: Archived) -> None:
    far = parse_lsn(archived.pin.lsn) + (1 << 30)
    with pytest.raises(BackupError, match=r"cannot store the WAL up to .*: only .* was stored within 0 s"):
        wait_for_wal(archived.destination, archived.base, far, Deadline(0.2))


def test_a_known_artifact_is_not_read_again(archived: Archived) -> None:
    known = {each.key: each for each in archived.wal}
    stored = wait_for_wal(archived.destination, archived.base, parse_lsn(archived.pin.lsn), Deadline(1))
    unreadable = Folder(Path("/nonexistent"))
    assert wal_artifacts(unreadable, stored, known) == archived.wal
