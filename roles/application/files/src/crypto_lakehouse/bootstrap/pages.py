# SPDX-License-Identifier: GPL-3.0-or-later
"""Pages of the orchestrator: the copies that Prefect serves, compared with the installed ones.

When it starts, Prefect (3.8.8, `prefect/server/api/server.py`) copies its pages into a folder and puts the path that
they are served at into them. A file in each copy names the version; while it is right, Prefect trusts the copy.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import closing
from functools import partial
from hashlib import sha256
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from crypto_lakehouse.bootstrap.ledger import BootstrapError, Ledger
from crypto_lakehouse.settings import Settings

WHAT: Final = "pages of the orchestrator"
PLACEHOLDER: Final = b"/PREFECT_UI_SERVE_BASE_REPLACE_PLACEHOLDER"
SUFFIXES: Final = (".txt", ".html", ".css", ".js", ".json")
"""Names of the files that Prefect puts the path into, which it reads and writes as text."""
REFERENCE: Final = "UI_SERVE_BASE"
SOURCES: Final = {"v1": "server/ui", "v2": "server/ui-v2"}
"""Folders in Prefect's package, by the name of the copy."""
LOCKS: Final = frozenset({".v1_ui_static.lock", ".v2_ui_static.lock"})
FILE_MODE: Final = 0o700
"""That of Prefect's own copies."""


def ensure(settings: Settings, ledger: Ledger) -> None:
    """Write pages again that differ, and remove files that Prefect did not copy. Pages need no restart.

    Without the setting `orchestrator_pages`, the pages are not on this machine, and nothing happens.

    Raises:
        SettingsError: when the API's address was not given.
        PrefectError: when the API refuses.
        BootstrapError: when a page cannot be written.
    """
    if settings.orchestrator_pages is None:
        return
    folder, described = Path(settings.orchestrator_pages), expected(_prefect(), _served_at(settings))
    different = differences(folder, described)
    for copy in SOURCES:
        # A copy of another version, or one that is missing: every file of it differs.
        reference = f"{copy}/{REFERENCE}"
        if reference in different:
            of_copy = [path for path in different if path.startswith(f"{copy}/") or path == copy]
            ledger.ensure(f"{WHAT}: {copy}", False, partial(_repair, folder, described, of_copy))
            different = {path: found for path, found in different.items() if path not in of_copy}
    for path, found in different.items():
        ledger.ensure(f"{WHAT}: {_printable(path)} {found}", False, partial(_repair, folder, described, [path]))
    if not different:
        ledger.ensure(WHAT, True, lambda: None)


def _printable(text: str) -> str:
    """Return a name on one line: names of files that do not belong there come from others."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)


def _served_at(settings: Settings) -> str:
    """Return the path that the running orchestrator serves its pages at."""
    from crypto_lakehouse.flows.deployments import PrefectApi

    with closing(PrefectApi(settings)) as api:
        found = api.find("admin/settings") or {}
    return str(found["server"]["ui"]["serve_base"] or "/")


def _prefect() -> Path:
    """Return the folder of Prefect's package, without its import, which takes seconds."""
    found = find_spec("prefect")
    if found is None or not found.submodule_search_locations:
        raise BootstrapError("cannot compare the pages of the orchestrator: Prefect is not installed")
    return Path(found.submodule_search_locations[0])


def expected(package: Path, served_at: str) -> dict[str, bytes]:
    """Return the content of each file by its path below the folder of the copies.

    package: folder of the package `prefect`. served_at: its setting `server.ui.serve_base`.
    """
    version = metadata.version("prefect")
    found = {}
    for copy, base in bases(served_at).items():
        replacement = b"" if base == "/" else base.encode()
        for path, _status in _files(package / SOURCES[copy], ""):
            content = (package / SOURCES[copy] / path).read_bytes()
            if path.endswith(SUFFIXES):
                content = _with_line_feeds(content).replace(PLACEHOLDER, replacement)
            found[f"{copy}/{path}"] = content
        found[f"{copy}/{REFERENCE}"] = f"{copy}:{version}:{base}".encode()
    return found


def bases(served_at: str) -> dict[str, str]:
    """Return the path of each copy's pages, as Prefect derives it from its setting."""
    given = f"/{served_at.strip('/')}" if served_at.strip("/") else "/"
    if given == "/v2" or given.endswith("/v2"):
        return {"v1": given.removesuffix("/v2") or "/", "v2": given}
    return {"v1": given, "v2": f"{'' if given == '/' else given}/v2"}


def _with_line_feeds(content: bytes) -> bytes:
    return content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def differences(folder: Path, described: Mapping[str, bytes]) -> dict[str, str]:
    """Return the problem of each file that differs, by its path: first files that do not belong there."""
    there = dict(_files(folder, ""))
    found = dict.fromkeys(sorted(there.keys() - described.keys() - LOCKS), "is not part of it")
    for path, content in sorted(described.items()):
        if path not in there:
            found[path] = "is missing"
        elif not stat.S_ISREG(there[path].st_mode) or _digest(folder / path) != sha256(content).digest():
            found[path] = "differs"
    return found


def _digest(path: Path) -> bytes:
    try:
        return sha256(path.read_bytes()).digest()
    except OSError:
        return b""


def _files(folder: Path, below: str) -> Iterator[tuple[str, os.stat_result]]:
    """Yield path and status of everything but folders, at any depth; a link to a folder counts as a file."""
    if not folder.is_dir() or folder.is_symlink():
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            path = f"{below}{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                yield from _files(Path(entry.path), f"{path}/")
            else:
                yield path, entry.stat(follow_symlinks=False)


def _repair(folder: Path, described: Mapping[str, bytes], paths: list[str]) -> None:
    """Remove undescribed files and write the rest, each in one step; links that lead elsewhere are replaced."""
    try:
        if folder.is_symlink():
            folder.unlink()
        for path in paths:
            if path not in described:
                (folder / path).unlink(missing_ok=True)
        for path in paths:
            if path in described:
                _write(folder / path, described[path])
    except OSError as error:
        raise BootstrapError(
            f"cannot write {error.filename}: {error.strerror}; give it and its folder to the user of the services"
        ) from error


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(mode=FILE_MODE, parents=True, exist_ok=True)
    partial_path = path.with_name(f".{path.name}.partial")
    partial_path.unlink(missing_ok=True)
    partial_path.write_bytes(content)
    partial_path.chmod(FILE_MODE)
    partial_path.replace(path)
