# SPDX-License-Identifier: GPL-3.0-or-later
"""The folder destination: exclusive creation, modes, symbolic links, a full disk, and the files of a killed run."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from backup_store import after, blocks

from crypto_lakehouse.backup.destination import Stored
from crypto_lakehouse.backup.destination.folder import INCOMING, FolderDestination
from crypto_lakehouse.backup.errors import BackupError, DestinationError, IntegrityError, RefusedError

UNTIL = after(hours=1)
CONTENT = b"0123456789" * 1000


@pytest.fixture
def destination(tmp_path: Path) -> FolderDestination:
    """Return an empty folder."""
    (tmp_path / "root").mkdir(mode=0o700)
    return FolderDestination(tmp_path / "root")


def create(destination: FolderDestination, key: str, content: bytes = CONTENT) -> Stored:
    """Create a file."""
    return destination.create(key, blocks(content, 999), len(content), UNTIL)


def test_files_and_folders_belong_to_their_owner_alone(destination: FolderDestination) -> None:
    create(destination, "objects/aa/x")
    modes = {path.name: path.stat().st_mode & 0o777 for path in destination.root.rglob("*")}
    assert modes == {"objects": 0o700, "aa": 0o700, "x": 0o400, INCOMING: 0o700}
    assert not destination.is_locked
    assert "no object lock" in destination.warnings()[0]


def test_a_file_is_never_replaced(destination: FolderDestination) -> None:
    first = create(destination, "sets/a")
    assert create(destination, "sets/a") == first
    with pytest.raises(IntegrityError, match="exists with other content"):
        create(destination, "sets/a", CONTENT[::-1])
    with pytest.raises(IntegrityError, match="were announced"):
        destination.create("sets/b", blocks(CONTENT), len(CONTENT) + 1, UNTIL)
    assert b"".join(destination.read("sets/a")) == CONTENT
    assert [each.key for each in destination.list("")] == ["sets/a"]
    assert list((destination.root / INCOMING).iterdir()) == []


def test_one_of_many_writers_creates_a_file(destination: FolderDestination) -> None:
    barrier = Barrier(8)

    def write(number: int) -> str:
        barrier.wait()
        try:
            return create(destination, "sets/m", bytes([number]) * 1000).sha256
        except IntegrityError:
            return ""

    with ThreadPoolExecutor(8) as pool:
        created = [each for each in pool.map(write, range(8)) if each]
    assert len(created) == 1


def test_files_are_listed_by_key(destination: FolderDestination) -> None:
    keys = ["objects/aa/x", "objects/ab/x", "sets/x.y/m", "sets/x/m", "sets/xy", "wal/1/2.gz"]
    for key in reversed(keys):
        create(destination, key)
    assert [each.key for each in destination.list("")] == sorted(keys)
    assert [each.key for each in destination.list("sets/x/")] == ["sets/x/m"]
    assert [each.key for each in destination.list("sets/x")] == ["sets/x.y/m", "sets/x/m", "sets/xy"]
    assert list(destination.list("none/")) == []
    with pytest.raises(RefusedError):
        list(destination.list("../"))


@pytest.mark.parametrize(
    "key", ["", "../x", "a/../b", "/etc/x", "a//b", "a/", "a\0b", "a\\b", ".incoming/x", ".hidden"]
)
def test_keys_outside_the_root_are_refused(destination: FolderDestination, key: str) -> None:
    for act in (create, FolderDestination.find, lambda place, name: list(place.read(name))):
        with pytest.raises(RefusedError, match="leaves the destination's root"):
            act(destination, key)


def test_symbolic_links_are_refused(destination: FolderDestination, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "x").write_bytes(b"outside")
    (destination.root / "sets").symlink_to(outside)
    (destination.root / "objects").mkdir()
    (destination.root / "objects" / "x").symlink_to(outside / "x")
    acts: list[Callable[[], object]] = [
        lambda: create(destination, "sets/y"),
        lambda: list(destination.read("sets/x")),
        lambda: list(destination.read("objects/x")),
        lambda: create(destination, "objects/x"),
        lambda: destination.find("objects/x"),
        lambda: destination.find("sets/x"),
        lambda: list(destination.list("")),
    ]
    for act in acts:
        with pytest.raises(BackupError, match=r"symbolic link|not a regular file"):
            act()
    assert [path.name for path in outside.iterdir()] == ["x"]
    linked = tmp_path / "linked"
    linked.symlink_to(destination.root)
    assert "symbolic link" in FolderDestination(linked).check()[0]


def _missing(root: Path) -> None:
    root.rmdir()


def _a_file(root: Path) -> None:
    root.rmdir()
    root.write_text("")


def _open_to_others(root: Path) -> None:
    root.chmod(0o777)


@pytest.mark.parametrize(
    ("change", "words"),
    [(_missing, "No such file"), (_a_file, "not a folder"), (_open_to_others, "writable by others")],
)
def test_a_folder_that_cannot_be_used_is_a_problem(
    destination: FolderDestination, change: Callable[[Path], None], words: str
) -> None:
    assert destination.check() == []
    assert list(destination.root.iterdir()) == []
    change(destination.root)
    (problem,) = destination.check()
    assert words in problem


def test_what_is_absent_is_told(destination: FolderDestination) -> None:
    assert destination.find("sets/none") is None
    assert destination.stat("sets/none", None) is None
    with pytest.raises(DestinationError, match="No such file"):
        list(destination.read("sets/none"))
    stored = create(destination, "sets/one")
    destination.delete(stored)
    assert destination.find("sets/one") is None


_KILLED = """
import os, sys
from datetime import UTC, datetime
from pathlib import Path
sys.path[:0] = sys.argv[2].split(os.pathsep)
from crypto_lakehouse.backup.destination.folder import FolderDestination
def content():
    yield b"half"
    os.kill(os.getpid(), 9)
FolderDestination(Path(sys.argv[1])).create("sets/a", content(), 8, datetime.now(UTC))
"""


def test_a_killed_writer_leaves_nothing_after_the_next_check(destination: FolderDestination) -> None:
    command = [sys.executable, "-c", _KILLED, str(destination.root), os.pathsep.join(sys.path)]
    assert subprocess.run(command, check=False).returncode == -9
    assert destination.find("sets/a") is None
    assert len(list((destination.root / INCOMING).iterdir())) == 1

    def content() -> Iterator[bytes]:
        yield b"full"
        # The file of a running writer stays.
        assert destination.check() == []
        yield b"full"

    assert destination.create("sets/a", content(), 8, UNTIL).size == 8
    assert list((destination.root / INCOMING).iterdir()) == []


@pytest.mark.parametrize("moment_of_check", ["folder", "file"])
def test_a_check_beside_a_writer_does_not_fail_it(
    destination: FolderDestination, monkeypatch: pytest.MonkeyPatch, moment_of_check: str
) -> None:
    owner, name = (os, "fsync") if moment_of_check == "folder" else (fcntl, "flock")
    act = getattr(owner, name)
    checked: list[list[str]] = []

    def beside(*arguments: Any) -> Any:
        # After the folder of incoming files was created, or before the new file is locked.
        if not checked:
            checked.append([])
            checked[0] += destination.check()
        return act(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, beside)
        assert create(destination, "sets/one").key == "sets/one"
    assert checked == [[]]
    assert destination.check() == []
    assert [each.name for each in destination.root.iterdir()] == ["sets"]


_FULL = """
import errno, os, sys
from datetime import UTC, datetime
from pathlib import Path
sys.path[:0] = sys.argv[2].split(os.pathsep)
from crypto_lakehouse.backup.destination.folder import FolderDestination
from crypto_lakehouse.backup.errors import DestinationError
destination = FolderDestination(Path(sys.argv[1]))
def store(key, size):
    destination.create(key, (b"x" * 65536 for _number in range(size // 65536)), size, datetime.now(UTC))
store("objects/small", 65536)
try:
    store("objects/large", 8 << 20)
except DestinationError as error:
    print(error.message, "|", error.remedy)
print([each.key for each in destination.list("")], os.listdir(Path(sys.argv[1], ".incoming")))
"""


def test_a_full_disk_is_an_error_that_says_so(destination: FolderDestination) -> None:
    mount = 'mount -t tmpfs -o size=1m,mode=700 none "$0" && exec "$@"'
    program = [sys.executable, "-c", _FULL, str(destination.root), os.pathsep.join(sys.path)]
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c", mount, str(destination.root), *program]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    message, left = ended.stdout.splitlines()
    root = destination.root
    assert message == (
        f"cannot store {root}/objects/large: the destination is full | Free space below {root}, or set another folder."
    )
    assert left == "['objects/small'] []"
