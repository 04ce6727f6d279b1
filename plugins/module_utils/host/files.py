# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plan and apply the changes that bring a set of files and folders to their description."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from .descriptions import Record
from .errors import BlockedError, HostError, message_of
from .markers import before_text, fill, mask, secret_names
from .tree import Entry, Tree, locked, require_owner

DEFAULT_FILE_MODE = 0o600
DEFAULT_FOLDER_MODE = 0o700
SHOWN_LIMIT_BYTES = 1 << 20


@dataclass(frozen=True)
class FileSpec:
    """A described file. `content` is text with placeholders `${secret_value.NAME}`, written as UTF-8."""

    path: Path
    content: str = field(repr=False)
    mode: int = DEFAULT_FILE_MODE


@dataclass(frozen=True)
class FolderSpec:
    """A described folder."""

    path: Path
    mode: int = DEFAULT_FOLDER_MODE


@dataclass(frozen=True)
class Secrets:
    """Current values of secrets, the names whose value will change, and the recorded descriptions of files."""

    values: Mapping[str, str] = field(default_factory=dict, repr=False)
    changing: frozenset[str] = frozenset()
    record: Record | None = None


@dataclass(frozen=True)
class Change:
    """One step: `action` is create, update, mode or remove; `before` and `after` are texts for a diff.

    A `blocked` step cannot be applied; `after` contains the reason.
    """

    path: Path
    kind: str
    action: str
    mode: int = 0
    data: bytes = field(default=b"", repr=False)
    before: str = ""
    after: str = ""


def parse_mode(mode: str | int, path: Path) -> int:
    """Return permission bits from octal text (`0600`) or a number. Raise `HostError` for other values."""
    try:
        number = int(mode, 8) if isinstance(mode, str) else mode
    except ValueError:
        number = -1
    if not 0 <= number <= 0o777:
        raise HostError(f"{path}: mode {mode!r} is not one of the form '0600'; write it in quotes")
    return number


def common_root(paths: Iterable[Path]) -> Path:
    """Return the lowest folder that is or contains each of the paths."""
    return Path(os.path.commonpath([str(path) for path in paths]))


def plan(
    tree: Tree,
    folders: Sequence[FolderSpec],
    files: Sequence[FileSpec],
    prune: Sequence[Path],
    secrets: Secrets,
    list_blocked: bool = False,
    absent: Sequence[Path] = (),
) -> list[Change]:
    """Return the steps from the current to the described state, in the order of their execution.

    Raise one `HostError` that lists all obstacles: a link, a folder at the path of a file, another user's file, an
    unknown secret. With `list_blocked`, a path with an obstacle is a `blocked` step among the others instead.
    """
    problems: list[str] = []

    def attempt(path: Path, step: Callable[[], list[Change]]) -> list[Change]:
        try:
            return step()
        except BlockedError as error:
            if list_blocked:
                return [Change(path, "file", "blocked", after=f"{error}\n")]
            problems.append(str(error))
            return []
        except HostError as error:
            problems.append(str(error))
            return []

    wanted = _with_parents(tree, folders, files)
    described = {file.path for file in files}
    changes: list[Change] = []
    problems += _contradictions([*(folder.path for folder in wanted), *prune], files)
    for folder in wanted:
        changes += attempt(folder.path, partial(_plan_folder, tree, folder))
    for file in sorted(files, key=lambda file: file.path):
        changes += attempt(file.path, partial(_plan_file, tree, file, secrets))
    for folder_path in prune:
        changes += attempt(folder_path, partial(_plan_prune, tree, folder_path, described))
    for path in absent:
        changes += attempt(path, partial(_plan_absent, tree, path))
    if problems:
        raise HostError("; ".join(dict.fromkeys(problems)))
    return changes


def apply(tree: Tree, changes: Iterable[Change]) -> None:
    """Apply the steps. After a kill at any moment, every file is complete, and the next plan has the remaining steps.

    Raise one `HostError` that lists all failed steps, after all others were applied.
    """
    problems = []
    for change in changes:
        try:
            _apply(tree, change)
        except (HostError, OSError) as error:
            problems.append(message_of(error))
    if problems:
        raise HostError("; ".join(dict.fromkeys(problems)))


def _apply(tree: Tree, change: Change) -> None:
    if change.action == "remove":
        tree.remove(change.path)
    elif change.action == "mode":
        tree.set_mode(change.path, change.mode)
    elif change.kind == "folder":
        tree.make_folder(change.path, change.mode)
    else:
        tree.write(change.path, change.data, change.mode)


def converge(
    tree: Tree,
    folders: Sequence[FolderSpec],
    files: Sequence[FileSpec],
    prune: Sequence[Path],
    secrets: Secrets,
    check_mode: bool = False,
    absent: Sequence[Path] = (),
) -> list[Change]:
    """Plan the steps, apply them outside of check mode, and return them."""
    changes = plan(tree, folders, files, prune, secrets, check_mode, absent)
    if check_mode:
        return changes
    described = {str(file.path): [file.content] if secret_names(file.content) else [] for file in files}
    if changes:
        if tree.entry(tree.root).kind == "missing":
            tree.make_folder(tree.root, next(change.mode for change in changes if change.path == tree.root))
        with locked(tree.root):
            if secrets.record:
                secrets.record.begin(described)
            # Another run may have held the lock until now: its steps are not repeated.
            apply(tree, plan(tree, folders, files, prune, secrets, absent=absent))
            if secrets.record:
                secrets.record.finish(described)
    elif secrets.record:
        secrets.record.finish(described)
    return changes


def diff(changes: Iterable[Change]) -> list[dict[str, str]]:
    """Return the steps as a diff of Ansible, with one entry for each path."""
    return [
        {
            "before_header": f"{change.path}{' (mode)' if change.action == 'mode' else ''}",
            "after_header": f"{change.path}{' (mode)' if change.action == 'mode' else ''}",
            "before": change.before,
            "after": change.after,
        }
        for change in changes
    ]


def _with_parents(tree: Tree, folders: Sequence[FolderSpec], files: Sequence[FileSpec]) -> list[FolderSpec]:
    """Return the folders, and the parents of folders and files with the default mode; parents first."""
    wanted = {folder.path: folder for folder in folders}
    for path in [*(folder.path for folder in folders), *(file.path for file in files)]:
        for parent in path.parents:
            if not parent.is_relative_to(tree.root):
                break
            if parent not in wanted and _lacks(tree, parent):
                wanted[parent] = FolderSpec(parent)
    return sorted(wanted.values(), key=lambda folder: folder.path)


def _lacks(tree: Tree, folder: Path) -> bool:
    """Return whether the path is missing; other problems are found when the folder's content is planned."""
    try:
        return tree.entry(folder).kind == "missing"
    except HostError:
        return False


def _contradictions(folders: Sequence[Path], files: Sequence[FileSpec]) -> list[str]:
    """Return the problems of paths that are described twice, or as a file that is the parent of another path."""
    paths = [file.path for file in files]
    twice = sorted({path for path in paths if paths.count(path) > 1})
    needed = {*folders, *(parent for path in [*folders, *paths] for parent in path.parents)}
    both = sorted(needed.intersection(paths))
    return [f"{path}: is described twice" for path in twice] + [f"{path}: is a file and a folder" for path in both]


def _plan_folder(tree: Tree, folder: FolderSpec) -> list[Change]:
    entry = tree.entry(folder.path)
    shown = f"folder, mode {folder.mode:04o}\n"
    if entry.kind == "missing":
        return [Change(folder.path, "folder", "create", folder.mode, after=shown)]
    _require(entry, "folder")
    if entry.mode == folder.mode:
        return []
    return [Change(folder.path, "folder", "mode", folder.mode, before=f"folder, mode {entry.mode:04o}\n", after=shown)]


def _require(entry: Entry, kind: str) -> None:
    if entry.kind not in ("missing", kind):
        raise BlockedError(f"{entry.path}: a {kind} is needed here, but it is a {entry.kind}; move it away")
    require_owner(entry)


def _plan_file(tree: Tree, file: FileSpec, secrets: Secrets) -> list[Change]:
    names = secret_names(file.content)
    if names and file.mode & 0o077:
        raise HostError(f"{file.path}: holds a secret, so mode {file.mode:04o} must not let others in; use '0600'")
    changing = secrets.changing.intersection(names)
    values = {**dict.fromkeys(secrets.changing, ""), **secrets.values}
    data = fill(file.content, values, str(file.path)).encode()
    entry = tree.entry(file.path, read=True)
    _require(entry, "file")
    change = Change(file.path, "file", "create", file.mode, data, after=_shown(file.content))
    if entry.kind == "missing":
        return [change]
    if entry.data != data or changing:
        current = {name: value for name, value in secrets.values.items() if name not in changing}
        return [replace(change, action="update", before=_before(entry, file, replace(secrets, values=current)))]
    if entry.mode == file.mode:
        return []
    return [replace(change, action="mode", before=f"mode {entry.mode:04o}\n", after=f"mode {file.mode:04o}\n")]


def _before(entry: Entry, file: FileSpec, secrets: Secrets) -> str:
    if entry.data is None:
        return "(not readable)\n"
    try:
        text = entry.data.decode()
    except UnicodeDecodeError:
        return f"(binary, {len(entry.data)} bytes)\n"
    earlier = secrets.record.of(file.path) if secrets.record else ()
    if earlier or earlier is None or secret_names(file.content):
        return _shown(before_text(text, [*(earlier or ()), file.content], secrets.values))
    return _shown(mask(text, secrets.values))


def _shown(text: str) -> str:
    size = len(text.encode())
    return text if size <= SHOWN_LIMIT_BYTES else f"({size} bytes, too long to show)\n"


def _plan_prune(tree: Tree, folder: Path, described: set[Path]) -> list[Change]:
    undescribed = [path for path in tree.files_below(folder) if path not in described]
    # An undescribed file may contain secrets: its content is not shown.
    return [Change(path, "file", "remove", before="(a file that is not described)\n") for path in undescribed]


def _plan_absent(tree: Tree, path: Path) -> list[Change]:
    try:
        entry = tree.entry(path)
    except BlockedError:
        # A file has no entries to read; a link may have.
        if tree.entry(path.parent).kind == "file":
            return []
        raise
    if entry.kind not in ("file", "symlink"):
        return []
    return [Change(path, "file", "remove", before="(a file that is not described)\n")]
