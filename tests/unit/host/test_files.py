# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import shutil
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.descriptions import read_record
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.errors import HostError
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.files import (
    Change,
    FileSpec,
    FolderSpec,
    Secrets,
    common_root,
    converge,
    diff,
    parse_mode,
    plan,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.tree import Tree, locked
from tests.unit.host.conftest import snapshot

VALUE, OLD_VALUE = "today-secret-1", "former-secret-0"
SECRETS = Secrets({"pw": VALUE})
NOTHING = Secrets()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def run(
    home: Path,
    files: dict[str, str] | None = None,
    prune: Sequence[str] = (),
    secrets: Secrets = NOTHING,
    folders: dict[str, int] | None = None,
    check_mode: bool = False,
) -> list[Change]:
    described = [FileSpec(home / path, content) for path, content in (files or {}).items()]
    wanted = [FolderSpec(home / path, mode) for path, mode in (folders or {}).items()]
    return converge(Tree(home), wanted, described, [home / path for path in prune], secrets, check_mode)


def actions(changes: Sequence[Change], home: Path) -> list[tuple[str, str]]:
    return [(str(change.path.relative_to(home)), change.action) for change in changes]


def test_an_unknown_secret_is_an_error_that_names_file_and_secret_before_anything_is_written(home: Path) -> None:
    with pytest.raises(HostError, match=r"b\.conf: the secret 'other' is not in the store"):
        run(home, {"a.conf": "a", "b.conf": "${secret_value.other}"}, secrets=SECRETS)
    assert not home.exists()


def test_all_problems_are_told_at_once(home: Path) -> None:
    (home / "a.conf").mkdir(parents=True)
    (home / "b.conf").symlink_to("/etc/passwd")
    (home / "c").write_text("")
    with pytest.raises(HostError) as refused:
        run(home, {"a.conf": "", "b.conf": "", "c/x": "", "d": "${secret_value.other}"}, folders={"e": 0o700})
    for part in (
        "a.conf: a file is needed here, but it is a folder",
        "b.conf: a file is needed here, but it is a symlink",
    ):
        assert part in str(refused.value)
    assert "home/c: a folder is needed here, but it is a file; move it away" in str(refused.value)
    assert "the secret 'other'" in str(refused.value)
    assert not (home / "e").exists()


@pytest.mark.parametrize("kind", ["file", "symlink", "fifo"])
def test_what_stands_in_the_place_of_a_folder_is_refused(home: Path, kind: str, tmp_path: Path) -> None:
    home.mkdir()
    if kind == "file":
        (home / "etc").write_text("")
    elif kind == "symlink":
        (tmp_path / "elsewhere").mkdir()
        (home / "etc").symlink_to(tmp_path / "elsewhere")
    else:
        os.mkfifo(home / "etc")
    with pytest.raises(HostError, match="home/etc: a folder is needed here, but it is a"):
        run(home, {"etc/x": "text"})
    with pytest.raises(HostError, match="home/etc: a folder is needed here, but it is a"):
        run(home, folders={"etc": 0o700})
    with pytest.raises(HostError, match="home/etc: a folder is needed here"):
        run(home, prune=["etc"])
    assert not (tmp_path / "elsewhere").exists() or not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize("path", ["/etc/x", "{home}/../x", "{home}-beside/x", "relative"])
def test_a_path_outside_of_the_root_is_refused(home: Path, path: str) -> None:
    with pytest.raises(HostError, match=r"lies outside of|must be an absolute path without '\.\.'"):
        converge(Tree(home), [], [FileSpec(Path(path.format(home=home)), "")], [], NOTHING)


def test_a_file_of_another_user_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(home, {"a": "text"})
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    with pytest.raises(HostError, match=r"home/a: belongs to .*, not to 54321; .*chown -R 54321"):
        plan(Tree(home), [], [FileSpec(home / "a", "other")], [], NOTHING)


def test_a_file_with_a_secret_must_be_private(home: Path) -> None:
    with pytest.raises(HostError, match="holds a secret, so mode 0640 must not let others in"):
        converge(Tree(home), [], [FileSpec(home / "a", "${secret_value.pw}", 0o640)], [], SECRETS)


def test_one_path_described_twice_or_as_both_is_refused(home: Path) -> None:
    twice = [FileSpec(home / "a", ""), FileSpec(home / "a", "x"), FileSpec(home / "b", "")]
    with pytest.raises(HostError, match=r"home/a: is described twice; .*home/b: is a file and a folder"):
        converge(Tree(home), [FolderSpec(home / "b")], twice, [], NOTHING)


@pytest.mark.parametrize("mode", ["rw", "0999", "-1", 0o1777, "", "1777"])
def test_a_mode_that_is_none_is_refused(mode: str | int) -> None:
    with pytest.raises(HostError, match="write it in quotes"):
        parse_mode(mode, Path("/x"))


@pytest.mark.parametrize(("mode", "bits"), [("0600", 0o600), ("750", 0o750), (0o640, 0o640)])
def test_a_mode_is_octal_text_or_a_number(mode: str | int, bits: int) -> None:
    assert parse_mode(mode, Path("/x")) == bits


def test_a_first_run_writes_everything_and_a_second_touches_nothing(home: Path) -> None:
    files = {"etc/db/x.conf": "pw=${secret_value.pw|url}\n", "etc/y.conf": "ümläut\n"}
    changes = run(home, files, secrets=SECRETS, folders={"": 0o750, "log": 0o700})
    assert actions(changes, home) == [
        (".", "create"),
        ("etc", "create"),
        ("etc/db", "create"),
        ("log", "create"),
        ("etc/db/x.conf", "create"),
        ("etc/y.conf", "create"),
    ]
    assert (home / "etc/db/x.conf").read_text() == f"pw={VALUE}\n"
    assert (home / "etc/y.conf").read_bytes() == "ümläut\n".encode()
    assert stat.S_IMODE(home.stat().st_mode) == 0o750
    assert stat.S_IMODE((home / "etc/db/x.conf").stat().st_mode) == 0o600
    before = snapshot(home)
    assert run(home, files, secrets=SECRETS, folders={"": 0o750, "log": 0o700}) == []
    assert snapshot(home) == before


def test_only_what_was_edited_is_written_again(home: Path) -> None:
    files = {"a": "first\n", "b": "second\n"}
    run(home, files)
    before = snapshot(home)
    (home / "a").write_text("by hand\n")
    changes = run(home, files)
    assert actions(changes, home) == [("a", "update")]
    assert diff(changes) == [
        {"before_header": str(home / "a"), "after_header": str(home / "a"), "before": "by hand\n", "after": "first\n"}
    ]
    assert snapshot(home)["b"] == before["b"]


@pytest.mark.parametrize("mode", [0o644, 0o400, 0o000, 0o777])
def test_a_mode_that_was_changed_by_hand_is_repaired(home: Path, mode: int) -> None:
    run(home, {"etc/a": "text"})
    (home / "etc/a").chmod(mode)
    changes = run(home, {"etc/a": "text"})
    assert [change.action for change in changes] in (["mode"], ["update"])
    assert stat.S_IMODE((home / "etc/a").stat().st_mode) == 0o600
    assert run(home, {"etc/a": "text"}) == []


def test_the_mode_of_a_folder_is_repaired(home: Path) -> None:
    run(home, folders={"data": 0o700})
    (home / "data").chmod(0o777)
    changes = run(home, folders={"data": 0o700})
    assert diff(changes)[0]["before"] == "folder, mode 0777\n"
    assert stat.S_IMODE((home / "data").stat().st_mode) == 0o700


def test_a_binary_file_in_the_place_is_replaced_and_not_printed(home: Path) -> None:
    run(home, {"a": "text"})
    (home / "a").write_bytes(b"\xff\x00\xfe")
    assert diff(run(home, {"a": "text"}))[0]["before"] == "(binary, 3 bytes)\n"
    assert (home / "a").read_text() == "text"


def test_a_hard_link_to_somewhere_else_is_cut_not_written_through(home: Path, tmp_path: Path) -> None:
    run(home, {"a": "text"})
    (home / "a").unlink()
    (tmp_path / "elsewhere").write_text("precious")
    os.link(tmp_path / "elsewhere", home / "a")
    run(home, {"a": "text"})
    assert (tmp_path / "elsewhere").read_text() == "precious"


def test_pruning_removes_undescribed_files_and_links_only_below_its_folders(home: Path, tmp_path: Path) -> None:
    run(home, {"etc/a/keep": "x", "etc/b/gone": "x", "data/stays": "x"})
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/precious").write_text("")
    (home / "etc/link").symlink_to(tmp_path / "elsewhere")
    (home / "etc/.a.new").write_text("left by a killed run")
    os.mkfifo(home / "etc/pipe")
    changes = run(home, {"etc/a/keep": "x"}, prune=["etc", "missing"])
    assert actions(changes, home) == [("etc/.a.new", "remove"), ("etc/b/gone", "remove"), ("etc/link", "remove")]
    assert (tmp_path / "elsewhere/precious").exists()
    assert sorted(snapshot(home)) == ["data", "data/stays", "etc", "etc/a", "etc/a/keep", "etc/b", "etc/pipe"]


def test_the_content_of_a_pruned_file_is_not_shown(home: Path) -> None:
    run(home, {"etc/a": "who knows what"})
    assert "who knows" not in str(diff(run(home, prune=["etc"])))


@pytest.mark.parametrize(
    "before",
    [f"pw={OLD_VALUE}\nlevel=info\n", "pw=typed-in-9\nlevel=debug\n", f"level=x\npw={VALUE}\n", f"{OLD_VALUE}\n"],
)
def test_no_diff_and_no_representation_shows_a_secret(home: Path, before: str) -> None:
    files = {"a": "pw=${secret_value.pw}\nlevel=info\n"}
    run(home, files, secrets=SECRETS)
    (home / "a").write_text(before)
    for check_mode in (True, False):
        changes = run(home, files, secrets=SECRETS, check_mode=check_mode)
        assert not any(value in f"{diff(changes)} {changes} {SECRETS}" for value in (VALUE, OLD_VALUE, "typed-in-9"))
    assert (home / "a").read_text() == f"pw={VALUE}\nlevel=info\n"


def test_check_mode_works_before_the_secrets_exist(home: Path) -> None:
    unknown = Secrets(changing=frozenset({"pw"}))
    changes = run(home, {"etc/a": "pw=${secret_value.pw}\n"}, secrets=unknown, check_mode=True)
    assert actions(changes, home) == [("etc", "create"), ("etc/a", "create")] or actions(changes, home)[0][0] == "."
    assert not home.exists()


def test_check_mode_knows_files_whose_secret_is_about_to_change(home: Path) -> None:
    files = {"a": "pw=${secret_value.pw}\n", "b": "no secret\n"}
    run(home, files, secrets=SECRETS)
    rotating = Secrets(SECRETS.values, frozenset({"pw"}))
    changes = run(home, files, secrets=rotating, check_mode=True)
    assert diff(changes)[0]["before"] == "pw=(another value of pw)\n"
    assert actions(changes, home) == [("a", "update")]


class Rotated:
    """A home whose store contains the record, and runs that know only the current value."""

    def __init__(self, home: Path) -> None:
        self.home, self.store = home, home / "secrets"
        self.store.mkdir(parents=True)

    def run(self, value: str, files: dict[str, str], check_mode: bool = False, prune: Sequence[str] = ()) -> str:
        """Write the files, and return all output about it."""
        secrets = Secrets({"pw": value}, record=read_record(self.store))
        changes = run(self.home, files, prune, secrets, check_mode=check_mode)
        return "\n".join(str(entry) for entry in [*diff(changes), *changes])


FORMER_FILES = {"etc/a": "pw=${secret_value.pw}\nlevel=info\n", "etc/b": "hook: ${secret_value.pw|json}\n"}


@pytest.mark.parametrize(
    "files",
    [
        FORMER_FILES,
        {"etc/a": "level=debug\nfile=/run/pw\n", "etc/b": "hook: none\n"},
        {"etc/a": "${secret_value.pw}=key\nlevel=info\n", "etc/b": "hook: x${secret_value.pw|url}\n"},
    ],
    ids=["the same descriptions", "without secrets", "other descriptions"],
)
def test_a_rotation_shows_no_former_value_though_no_store_has_it(home: Path, files: dict[str, str]) -> None:
    rotated = Rotated(home)
    rotated.run(OLD_VALUE, FORMER_FILES)
    predicted = rotated.run(VALUE, files, check_mode=True)
    shown = rotated.run(VALUE, files)
    assert predicted == shown
    assert OLD_VALUE not in shown
    assert VALUE not in shown
    assert "pw=(another value of pw)\\nlevel=info" in shown
    kept = b"".join(content or b"" for _mode, content, _time in snapshot(home).values())
    assert OLD_VALUE.encode() not in kept
    assert rotated.run(VALUE, files) == ""


def test_what_other_files_hold_is_shown_once_they_are_known_to_hold_no_secret(home: Path) -> None:
    rotated = Rotated(home)
    (home / "plain").write_text(f"left by an earlier version: {OLD_VALUE}\n")
    assert OLD_VALUE not in rotated.run(VALUE, {"plain": "level=info\n"})
    (home / "plain").write_text("level=debug\n")
    assert "level=debug" in rotated.run(VALUE, {"plain": "level=info\n"})


@pytest.mark.parametrize("damage", [b"", b"{", b'{"version": 2, "files": {}}', b'{"version": 1, "files": {"a": 5}}'])
def test_a_damaged_record_hides_more_and_is_written_again(home: Path, damage: bytes) -> None:
    rotated = Rotated(home)
    rotated.run(OLD_VALUE, FORMER_FILES)
    whole = (rotated.store / "descriptions.json").read_bytes()
    (rotated.store / "descriptions.json").write_bytes(damage)
    shown = rotated.run(VALUE, {"etc/a": "level=debug\n", "etc/b": "hook: none\n"})
    assert OLD_VALUE not in shown
    assert "level=info" not in shown
    rotated.run(VALUE, FORMER_FILES)
    assert (rotated.store / "descriptions.json").read_bytes() == whole
    assert stat.S_IMODE((rotated.store / "descriptions.json").stat().st_mode) == 0o600


def test_files_of_another_run_with_the_same_store_stay_recorded_until_they_are_gone(home: Path) -> None:
    rotated = Rotated(home)
    rotated.run(OLD_VALUE, {"etc/a": "pw=${secret_value.pw}\n"})
    rotated.run(OLD_VALUE, {"etc/b": "x\n"})
    assert "pw=(another value of pw)" in rotated.run(VALUE, {"etc/a": "level=info\n"})
    rotated.run(VALUE, {"etc/a": "level=info\n"}, prune=["etc"])
    assert list(read_record(rotated.store).found) == [str(home / "etc/a")]


def test_a_rotation_that_is_killed_at_any_step_converges_and_shows_no_value(
    home: Path, every_death: Callable[[Callable[[], object]], Iterator[int]]
) -> None:
    rotated = Rotated(home)
    other = {"etc/a": "level=info\nurl=http://x:${secret_value.pw|url}@h/\n", "etc/b": "hook: none\n"}
    values = [f"value-number-{number:03d}" for number in range(100)]
    rotated.run(values[0], FORMER_FILES)
    wanted, step_of = [FORMER_FILES, other], [1]
    for step in every_death(lambda: rotated.run(values[step_of[0]], wanted[step_of[0] % 2])):
        # The next run has other descriptions and a new value.
        value, files = values[step + 2], wanted[step % 2]
        shown = rotated.run(value, files)
        assert not [known for known in values if known in shown]
        assert rotated.run(value, files) == ""
        for name, content in files.items():
            assert (home / name).read_text() == content.replace("${secret_value.pw}", value).replace(
                "${secret_value.pw|url}", value
            ).replace("${secret_value.pw|json}", f'"{value}"')
        step_of[0] = step + 3
    assert step_of[0] >= 12


def test_a_run_that_is_killed_at_any_step_is_finished_by_the_next(
    home: Path, every_death: Callable[[Callable[[], object]], Iterator[int]]
) -> None:
    files = {"etc/a": "pw=${secret_value.pw}\n", "etc/b/c": "x" * 100}
    deaths = 0
    for step in every_death(lambda: run(home, files, ["etc"], SECRETS)):
        deaths = step + 1
        for path in (home / "etc").rglob("[a-z]*"):
            assert path.is_dir() or path.read_text() in (f"pw={VALUE}\n", "x" * 100)
        run(home, files, ["etc"], SECRETS)
        assert run(home, files, ["etc"], SECRETS) == []
        assert sorted(snapshot(home)) == ["etc", "etc/a", "etc/b", "etc/b/c"]
        shutil.rmtree(home)
    assert deaths >= 10


def test_two_runs_at_once_end_as_one(home: Path) -> None:
    files = {f"etc/{number}": f"{number}\n" * 50 for number in range(30)}
    home.mkdir(mode=0o700)
    errors: list[Exception] = []

    def once() -> None:
        try:
            run(home, files, ["etc"])
        except HostError as error:
            errors.append(error)

    threads = [threading.Thread(target=once) for _number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert run(home, files, ["etc"]) == []


def test_a_lock_that_is_not_given_back_is_an_error_after_a_while(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(HostError, match="another run has been changing it"), locked(tmp_path, 0.1):
        pass


def test_the_common_root_is_the_lowest_folder_that_all_share() -> None:
    assert common_root([Path("/a/b/c"), Path("/a/b"), Path("/a/b/d/e")]) == Path("/a/b")


NAMES = st.sampled_from(["a", "b", "c"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
CONTENT = st.sampled_from(["", "one\n", "two\n", "pw=${secret_value.pw}\n"])
THERE = st.dictionaries(
    PATHS,
    st.tuples(st.sampled_from(["file", "folder", "link", "fifo"]), CONTENT, st.sampled_from([0o600, 0o644, 0o700])),
)


def _grow(root: Path, there: dict[str, tuple[str, str, int]]) -> None:
    for name, (kind, content, mode) in sorted(there.items()):
        path = root / name
        if (
            any(parent.exists() and not parent.is_dir() for parent in path.parents)
            or path.exists()
            or path.is_symlink()
        ):
            continue
        if any(parent.is_symlink() for parent in path.parents):
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind == "file":
            path.write_text(content)
            path.chmod(mode)
        elif kind == "folder":
            path.mkdir(mode=mode | 0o700)
        elif kind == "link":
            path.symlink_to(root.parent / "outside")
        else:
            os.mkfifo(path)


def test_what_cannot_be_repaired_is_one_difference_of_a_look_and_stops_a_run(
    home: Path,
) -> None:
    run(home, {"etc/a": "a", "etc/b": "b", "etc/c": "c"})
    (home / "etc/a").unlink()
    (home / "etc/a").symlink_to(home / "etc/b")
    (home / "etc/b").write_text("by hand")
    predicted = run(home, {"etc/a": "a", "etc/b": "b", "etc/c": "c"}, ["etc"], check_mode=True)
    assert actions(predicted, home) == [("etc/a", "blocked"), ("etc/b", "update")]
    assert "it is a symlink; move it away" in predicted[0].after
    with pytest.raises(HostError, match="etc/a: a file is needed here"):
        run(home, {"etc/a": "a", "etc/b": "b", "etc/c": "c"}, ["etc"])
    assert (home / "etc/b").read_text() == "by hand"


def test_a_file_that_a_program_would_read_is_removed_and_nothing_else_of_its_folder(home: Path) -> None:
    run(home, {"data/kept": "a"})
    (home / "data/.env").write_text("PREFECT_API_URL=http://elsewhere\n")
    (home / "data/.pgpass").mkdir()
    absent = [home / name for name in ("data/.env", "data/.pgpass", "data/.aws/config", "data/kept/x", "none/.env")]
    for check_mode in (True, False):
        changes = converge(Tree(home), [], [], [], NOTHING, check_mode, absent)
        assert actions(changes, home) == [("data/.env", "remove")]
    assert sorted(path.name for path in (home / "data").iterdir()) == [".pgpass", "kept"]
    assert converge(Tree(home), [], [], [], NOTHING, False, absent) == []


def test_a_file_that_cannot_be_written_keeps_no_other(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = Tree.write

    def refusing(tree: Tree, path: Path, data: bytes, mode: int) -> None:
        if path.name == "a":
            raise HostError(f"{path}: cannot be written: Operation not permitted")
        write(tree, path, data, mode)

    monkeypatch.setattr(Tree, "write", refusing)
    with pytest.raises(HostError, match="a: cannot be written"):
        run(home, {"etc/a": "a", "etc/b": "b"})
    assert (home / "etc/b").read_text() == "b"


@given(THERE, st.dictionaries(PATHS, CONTENT, max_size=5), st.lists(PATHS, max_size=2))
def test_any_tree_becomes_what_is_described_or_is_refused_untouched(
    there: dict[str, tuple[str, str, int]], files: dict[str, str], prune: list[str]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        outside = Path(folder) / "outside"
        outside.mkdir()
        home.mkdir()
        _grow(home, there)
        before = snapshot(Path(folder))
        try:
            predicted = run(home, files, prune, SECRETS, check_mode=True)
        except HostError:
            with pytest.raises(HostError):
                run(home, files, prune, SECRETS)
            assert snapshot(Path(folder)) == before
            return
        assert snapshot(Path(folder)) == before
        if any(change.action == "blocked" for change in predicted):
            with pytest.raises(HostError):
                run(home, files, prune, SECRETS)
            assert snapshot(Path(folder)) == before
            return
        assert run(home, files, prune, SECRETS) == predicted
        assert run(home, files, prune, SECRETS) == []
        assert not list(outside.iterdir())
        for name, content in files.items():
            assert (home / name).read_text() == content.replace("${secret_value.pw}", VALUE)
            assert stat.S_IMODE((home / name).stat().st_mode) == 0o600
        left = [path for name in prune for path in (home / name).rglob("*") if path.is_file()]
        assert {str(path.relative_to(home)) for path in left} <= files.keys()
        untouched = before.keys() - {f"home/{change.path.relative_to(home)}" for change in predicted}
        folders = {name for name in untouched if before[name][1] is None}
        after = snapshot(Path(folder))
        assert {name: before[name] for name in untouched - folders} == {
            name: after[name] for name in untouched - folders
        }
