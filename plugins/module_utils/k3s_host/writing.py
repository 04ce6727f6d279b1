# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write the role's files on a host: each is replaced atomically, with its final mode."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..k3s.tokens import PREFIX, TokenError, parse, same_secret

PRIVATE_MODE = 0o600
TOKEN_BYTES = 32
HIDDEN = "(not shown)\n"


@dataclass(frozen=True)
class Change:
    """A file that is written, or removed if `after` is None."""

    path: Path
    before: str | None = field(repr=False)
    after: str | None = field(repr=False)
    mode: int = PRIVATE_MODE


def changes(files: Mapping[str, str], modes: Mapping[str, int], exclusive: Collection[str]) -> list[Change]:
    """Return the files that differ in content or mode, and undescribed files in exclusive folders."""
    found = []
    for name, text in sorted(files.items()):
        path, mode = Path(name), modes.get(name, PRIVATE_MODE)
        before = _read(path)
        if before != text or path.is_symlink() or path.stat().st_mode & 0o7777 != mode:
            found.append(Change(path, before, text, mode))
    return [*found, *_foreign(files, exclusive)]


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None


def _foreign(files: Mapping[str, str], exclusive: Collection[str]) -> list[Change]:
    return [
        Change(path, _read(path), None)
        for folder in sorted(exclusive)
        for path in sorted(Path(folder).glob("*"))
        if str(path) not in files and (path.is_symlink() or path.is_file())
    ]


def apply(planned: Sequence[Change]) -> None:
    """Write and remove files."""
    for change in planned:
        if change.after is None:
            change.path.unlink(missing_ok=True)
        else:
            write(change.path, change.after, change.mode)


def remember(record: Path, planned: Sequence[Change]) -> None:
    """Record the former content of files before their change. Existing records stay."""
    known = former(record)
    for change in planned:
        mode = change.path.stat().st_mode & 0o7777 if change.before is not None else 0
        known.setdefault(str(change.path), {"text": change.before, "mode": mode})
    if planned:
        write(record, json.dumps(known))


def former(record: Path) -> dict[str, Any]:
    """Return the recorded content of files by path, None for a missing file; empty without a record."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        return dict(json.loads(record.read_bytes()))
    return {}


def restore(record: Path) -> list[Change]:
    """Return the changes that restore recorded files."""
    found = [
        Change(Path(name), _read(Path(name)), kept["text"], kept["mode"])
        for name, kept in sorted(former(record).items())
    ]
    return [change for change in found if change.before != change.after]


def write(path: Path, content: str | bytes, mode: int = PRIVATE_MODE) -> None:
    """Replace a file atomically, with its final mode. Text is written as UTF-8."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def diff(planned: Sequence[Change], sensitive: Collection[str]) -> list[dict[str, str]]:
    """Return the diff of a change, without the content of sensitive files."""
    return [
        {
            "before_header": str(change.path),
            "after_header": str(change.path),
            "before": _shown(change, change.before, sensitive),
            "after": _shown(change, change.after, sensitive),
        }
        for change in planned
    ]


def _shown(change: Change, text: str | None, sensitive: Collection[str]) -> str:
    return text if text is None or str(change.path) not in sensitive else HIDDEN if text else ""  # type: ignore[return-value]


def generate() -> str:
    """Return a new token of 256 random bits."""
    return secrets.token_hex(TOKEN_BYTES)


def read_token(paths: Sequence[Path]) -> str:
    """Return the password of the first readable token file; empty without one."""
    for path in paths:
        try:
            return parse(path.read_text(encoding="utf-8").strip()).password
        except (OSError, TokenError):
            continue
    return ""


def join_token(password: str, user: str, ca_hash: str) -> str:
    """Return the token with the hash of the CA, which a joining node verifies; without a hash, only the password."""
    return f"{PREFIX}{ca_hash}::{user}:{password}" if ca_hash else password


def holds(path: Path, wanted: str) -> bool:
    """Return whether a private file contains a token with the same credentials and, if requested, the CA's hash."""
    try:
        found = path.read_text(encoding="utf-8").strip()
        equal = same_secret(found, wanted) and parse(wanted).ca_hash in ("", parse(found).ca_hash)
        return equal and path.stat().st_mode & 0o7777 == PRIVATE_MODE
    except (OSError, TokenError):
        return False
