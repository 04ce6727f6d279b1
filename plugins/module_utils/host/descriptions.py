# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The record of the descriptions of written files, beside the secret store.

A later run compares a file that contains or contained secrets with its description, with placeholders on both sides, so
that former values are not required. The record is `{"version": 1, "files": {path: [description]}}`. It does not contain
values of secrets. For files without placeholders, it contains only the path.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .errors import HostError
from .tree import Tree, require_owner

NAME = "descriptions.json"
MODE = 0o600
VERSION = 1

Descriptions = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Record:
    """The record in the folder of a secret store, as `found`."""

    tree: Tree
    found: Descriptions = field(default_factory=dict, repr=False)

    @property
    def path(self) -> Path:
        """Return the path of the record."""
        return self.tree.root / NAME

    def of(self, path: Path) -> Sequence[str] | None:
        """Return the descriptions with placeholders from which a file may have been written.

        None if they are unknown; the file may then contain any values.
        """
        return self.found.get(str(path))

    def begin(self, described: Descriptions) -> None:
        """Add the descriptions of files before they are written: a killed run leaves old and new files.

        A file without a record is recorded when it has been written.
        """
        both = {path: dict.fromkeys([*texts, *described.get(path, ())]) for path, texts in self.found.items()}
        self._write({path: list(texts) for path, texts in both.items()})

    def finish(self, described: Descriptions) -> None:
        """Keep the new description of each described file, and the recorded descriptions of other files."""
        others = {path: texts for path, texts in self.found.items() if os.path.lexists(path)}
        self._write({**others, **described})

    def _write(self, files: Descriptions) -> None:
        if self.tree.entry(self.tree.root).kind == "missing":
            return
        document = (json.dumps({"version": VERSION, "files": dict(sorted(files.items()))}, indent=1) + "\n").encode()
        entry = self.tree.entry(self.path, read=True)
        if entry.data != document:
            self.tree.write(self.path, document, MODE)
        elif entry.mode != MODE:
            self.tree.set_mode(self.path, MODE)


def read_record(folder: Path) -> Record:
    """Return the record in `folder`, which is empty if it is missing or damaged.

    Raise `HostError` for a record that is not a file of the running user.
    """
    tree = Tree(folder)
    entry = tree.entry(folder / NAME, read=True)
    if entry.kind not in ("missing", "file"):
        raise HostError(f"{entry.path}: a file is needed here, but it is a {entry.kind}; move it away")
    require_owner(entry)
    return Record(tree, _read(entry.data))


def _read(data: bytes | None) -> Descriptions:
    try:
        document = json.loads(data or b"")
        if document["version"] != VERSION:
            return {}
        return {str(path): [str(text) for text in texts] for path, texts in document["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}
