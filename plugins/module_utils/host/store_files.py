# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The secret store on the disk: the store's file, and files with one secret each."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..secrets.values import (
    Changes,
    SecretSpec,
    Store,
    check_values,
    derived_value,
    hidden_values,
    plan_store,
    planned_derivation,
    planned_value,
    random_value,
    values_of,
)
from .errors import HostError
from .store import read_store, store_document
from .tree import Tree, is_temporary, locked, require_owner

STORE_MODE = 0o600
FOLDER_MODE = 0o700


@dataclass(frozen=True)
class SecretFile:
    """A file that contains only the value of one secret, for a process that reads it by path."""

    path: Path
    secret: str


@dataclass(frozen=True)
class FileChange:
    """A change of the store or a secret file. `action` is write, remove or mode, which restores the mode."""

    path: Path
    action: str
    data: bytes = field(default=b"", repr=False)


def plan_files(
    tree: Tree, path: Path, future: Store, changes: Changes, files: Sequence[SecretFile], prune: bool = False
) -> list[FileChange]:
    """Plan the store's file, then each secret file. Raise `HostError` for a file that must not be overwritten.

    prune: whether to remove files that may contain former values.
    """
    planned: list[FileChange] = []
    entry, document = tree.entry(path, read=True), store_document(future)
    if entry.data != document:
        planned.append(FileChange(path, "write", document))
    elif entry.mode != STORE_MODE:
        planned.append(FileChange(path, "mode"))
    values = values_of(future)
    for file in files:
        if file.secret in values:
            planned += _plan_file(tree, file.path, values[file.secret].encode())
        elif file.secret not in changes.missing:
            raise HostError(f"{file.path}: the secret '{file.secret}' is not described")
        elif tree.entry(file.path).kind != "missing":
            planned.append(FileChange(file.path, "remove"))
    return planned + (_plan_prune(tree, {file.path for file in files}) if prune else [])


def _plan_prune(tree: Tree, described: Collection[Path]) -> list[FileChange]:
    """Plan the removal of undescribed files below the store's folder, and of unfinished files of a killed run in it.

    A disabled service leaves the files of its secrets, which a later rotation would not replace.
    """
    return [
        FileChange(path, "remove")
        for path in tree.files_below(tree.root)
        if path not in described and (path.parent != tree.root or is_temporary(path))
    ]


def _plan_file(tree: Tree, path: Path, data: bytes) -> list[FileChange]:
    entry = tree.entry(path, read=True)
    if entry.kind not in ("missing", "file"):
        raise HostError(f"{path}: a file is needed here, but it is a {entry.kind}; move it away")
    require_owner(entry)
    if entry.kind == "missing" or entry.data != data:
        return [FileChange(path, "write", data)]
    return [FileChange(path, "mode")] if entry.mode != STORE_MODE else []


def plan_folders(tree: Tree, paths: Iterable[Path]) -> list[tuple[Path, str]]:
    """Return missing folders (path, make), and folders with another mode (path, mode), from the root down."""
    needed = {tree.root}
    for path in paths:
        parts = tree.parts(path)
        needed.update(tree.root.joinpath(*parts[:depth]) for depth in range(1, len(parts)))
    planned = []
    for folder in sorted(needed):
        entry = tree.entry(folder)
        if entry.kind not in ("missing", "folder"):
            raise HostError(f"{folder}: a folder is needed here, but it is a {entry.kind}; move it away")
        require_owner(entry)
        if entry.kind == "missing":
            planned.append((folder, "make"))
        elif entry.mode != FOLDER_MODE:
            planned.append((folder, "mode"))
    return planned


def apply_files(tree: Tree, folders: Iterable[tuple[Path, str]], files: Iterable[FileChange]) -> None:
    """Apply both plans, the store first: the next run writes the other files after a kill."""
    for folder, action in folders:
        if action == "make":
            tree.make_folder(folder, FOLDER_MODE)
        else:
            tree.set_mode(folder, FOLDER_MODE)
    for file in files:
        if file.action == "write":
            tree.write(file.path, file.data, STORE_MODE)
        elif file.action == "remove":
            tree.remove(file.path)
        else:
            tree.set_mode(file.path, STORE_MODE)


@dataclass(frozen=True)
class Converged:
    """Changes of a run, which check mode only plans: changed paths, and paths with changed content.

    `secret_values` are the values to mask.
    """

    changes: Changes
    paths: list[str]
    content_paths: list[str]
    diff: list[dict[str, str]]
    secret_values: list[str] = field(repr=False)

    @property
    def changed(self) -> bool:
        return bool(self.paths)


def converge(
    path: Path,
    specs: Sequence[SecretSpec],
    values: Mapping[str, Any],
    files: Sequence[SecretFile],
    rotate: bool = False,
    check_mode: bool = False,
    prune: bool = False,
) -> Converged:
    """Update the store at `path` and the secret files as described; in check mode, only return the changes."""
    tree = Tree(path.parent)
    given = check_values(specs, values)
    folders = plan_folders(tree, [path, *(file.path for file in files)])
    with contextlib.ExitStack() as stack:
        if not check_mode:
            apply_files(tree, folders, [])
            stack.enter_context(locked(tree.root))
        before = read_store(tree, path)
        # Check mode uses placeholders for new values, because an empty machine may lack the required packages.
        generate, derive = (planned_value, planned_derivation) if check_mode else (random_value, derived_value)
        future, changes = plan_store(specs, before, given, rotate, generate, derive)
        planned = plan_files(tree, path, future, changes, files, prune)
        if not check_mode:
            apply_files(tree, [], planned)
    paths = sorted({*(str(folder) for folder, _action in folders), *(str(file.path) for file in planned)})
    written = sorted(str(file.path) for file in planned if file.action != "mode")
    known = {*hidden_values(before), *hidden_values(future)}
    return Converged(changes, paths, written, _diff(path, changes, folders, planned), sorted(known))


def _diff(
    path: Path, changes: Changes, folders: Iterable[tuple[Path, str]], files: Iterable[FileChange]
) -> list[dict[str, str]]:
    """Return the changes as a diff of names without values."""
    kinds = ("generated", "rotated", "given", "derived", "removed")
    lines = sorted(f"{name}: {word}\n" for word in kinds for name in getattr(changes, word))
    lines += [f"{folder}: {'made' if action == 'make' else 'mode set to 0700'}\n" for folder, action in folders]
    says = {"write": "written", "remove": "removed", "mode": "mode set to 0600"}
    lines += [f"{file.path}: {says[file.action]}\n" for file in files]
    header = f"{path} (names only)"
    return [{"before_header": header, "after_header": header, "before": "", "after": "".join(lines)}] if lines else []
