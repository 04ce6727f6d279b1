# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare installed software with the manifest of its installation and with its source.

A manifest in the software's folder contains size, time, mode and digest of each file. A file with the recorded size,
time and mode is not read again, except the application, which is always compared by digest. Python's bytecode caches
are excluded.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .digests import sha256
from .errors import HostError

COMPLETE, MANIFEST = ".complete", ".manifest.json"
APPLICATION, PACKAGE = "application", "crypto_lakehouse"
PYTHON_FOLDER = "venv"
# Folders of the distribution's packages. Every installation links their files again.
PACKAGE_FOLDERS = ("packages",)
_LEFT_OUT = frozenset({COMPLETE, MANIFEST, f"{COMPLETE}.partial", f"{PYTHON_FOLDER}/.lock"})


@dataclass(frozen=True)
class Damage:
    """Differences: `paths` below the folder, each with its finding, and the parts that must be reinstalled.

    everything: the Python environment is damaged, or the manifest is missing. distributions: names of Python packages.
    """

    paths: Mapping[str, str]
    everything: bool = False
    packages: bool = False
    distributions: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.paths)


def record(folder: Path) -> None:
    """Write the manifest of a finished installation atomically."""
    found = {path: [size, time_ns, mode, sha256(folder / path)] for path, (size, time_ns, mode) in _files(folder)}
    links = {path: str((folder / path).readlink()) for path in _links(folder)}
    partial = folder / f"{MANIFEST}.partial"
    partial.write_text(json.dumps({"files": found, "links": links}), encoding="utf-8")
    partial.chmod(0o600)
    partial.replace(folder / MANIFEST)


def examine(folder: Path, sources: Mapping[str, str]) -> Damage:
    """Compare the folder with its manifest.

    sources: SHA-256 of each described file by its path below the folder; if empty, the source is not compared.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        recorded: dict[str, Any] = manifest["files"]
        links: dict[str, str] = manifest["links"]
    except (OSError, ValueError, KeyError, TypeError):
        return Damage({MANIFEST: "is missing or damaged"}, everything=True)
    paths = {**_sources(folder, sources), **_installed(folder, recorded), **_linked(folder, links)}
    paths.update(_application(folder, sources, recorded))
    described = {*recorded, *sources, *links}
    for path in _entries(folder):
        if path not in described and path not in _LEFT_OUT and (sources or not _is_source(path)):
            paths[path] = "is not part of the software"
    changed = [path for path in paths if path in recorded or path in links]
    owners = _owners(folder, [path for path in changed if path.startswith(f"{PYTHON_FOLDER}/")])
    return Damage(
        dict(sorted(paths.items())),
        # Files without a package belong to the Python environment itself.
        everything="" in owners,
        packages=any(path.partition("/")[0] in PACKAGE_FOLDERS for path in changed),
        distributions=tuple(sorted(owners - {""})),
    )


def clear(folder: Path, damage: Damage) -> None:
    """Remove the record of a complete installation, then the damaged files, so that it will be continued."""
    (folder / COMPLETE).unlink(missing_ok=True)
    if damage.everything:
        _remove(folder / PYTHON_FOLDER)
        return
    for path in damage.paths:
        _remove(folder / path)
    for metadata in (folder / PYTHON_FOLDER).glob("lib/python*/site-packages/*.dist-info"):
        if _name(metadata.name) in damage.distributions:
            _remove(metadata)


def _remove(path: Path) -> None:
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise HostError(f"{path}: cannot be removed: {error.strerror}; remove it as its owner") from None


def _sources(folder: Path, sources: Mapping[str, str]) -> dict[str, str]:
    return {path: found for path, digest in sources.items() if (found := _difference(folder / path, digest))}


def _difference(path: Path, digest: str) -> str:
    try:
        return "" if not path.is_symlink() and sha256(path) == digest else "differs"
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def _installed(folder: Path, recorded: Mapping[str, Any]) -> dict[str, str]:
    found = {}
    there = dict(_files(folder))
    for path, (size, time_ns, mode, digest) in recorded.items():
        if path not in there:
            found[path] = "is missing"
        elif there[path] != (size, time_ns, mode):
            difference = _difference(folder / path, digest)
            if difference or there[path][2] != mode:
                found[path] = difference or f"has the mode {there[path][2]:04o}"
    return found


def _linked(folder: Path, links: Mapping[str, str]) -> dict[str, str]:
    found = {}
    for path, target in links.items():
        try:
            if str((folder / path).readlink()) != target:
                found[path] = "differs"
        except OSError:
            found[path] = "is missing"
    return found


def _application(folder: Path, sources: Mapping[str, str], recorded: Mapping[str, Any]) -> dict[str, str]:
    """Compare the installed package with its source."""
    source = f"{APPLICATION}/src/{PACKAGE}/"
    place = re.compile(rf"{PYTHON_FOLDER}/lib/python[^/]+/site-packages/{PACKAGE}/(.+)")
    found = {}
    for path in recorded:
        inner = place.fullmatch(path)
        if inner and source + inner[1] in sources:
            difference = _difference(folder / path, sources[source + inner[1]])
            if difference:
                found[path] = difference
    return found


def _owners(folder: Path, paths: list[str]) -> set[str]:
    """Return the names of the distributions that own one of the paths, with an empty name for other paths."""
    wanted = {os.path.normpath(folder / path) for path in paths}
    if not wanted:
        return set()
    owners = set()
    left = set(wanted)
    for listing in (folder / PYTHON_FOLDER).glob("lib/python*/site-packages/*.dist-info/RECORD"):
        site = listing.parent.parent
        try:
            lines = listing.read_text(encoding="utf-8").splitlines()
        except OSError:
            continue
        held = wanted.intersection(os.path.normpath(site / line.rsplit(",", 2)[0].strip('"')) for line in lines)
        if held:
            owners.add(_name(listing.parent.name))
            left -= held
    for path in left:
        metadata = re.search(r"/site-packages/([^/]+)\.dist-info/", path)
        owners.add(_name(f"{metadata[1]}.dist-info") if metadata else "")
    return owners


def _name(metadata: str) -> str:
    """Return the distribution's name from that of its folder, `NAME-VERSION.dist-info`."""
    return re.sub(r"[-_.]+", "-", metadata.removesuffix(".dist-info").rpartition("-")[0]).lower()


def _files(folder: Path) -> Iterator[tuple[str, tuple[int, int, int]]]:
    """Yield path, and size, modification time and mode, of each regular file except the application's source."""
    for path, entry in _walk(str(folder), ""):
        status = entry.stat(follow_symlinks=False)
        if stat.S_ISREG(status.st_mode) and path not in _LEFT_OUT and not _is_source(path):
            yield path, (status.st_size, status.st_mtime_ns, stat.S_IMODE(status.st_mode))


def _is_source(path: str) -> bool:
    """Return whether the file is compared with its description instead of the manifest."""
    return "/" not in path or path.startswith(f"{APPLICATION}/")


def _links(folder: Path) -> Iterator[str]:
    return (path for path, entry in _walk(str(folder), "") if entry.is_symlink() and not _is_source(path))


def _entries(folder: Path) -> Iterator[str]:
    return (path for path, _entry in _walk(str(folder), ""))


def _walk(folder: str, below: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield all entries at any depth, without folders and bytecode caches."""
    with os.scandir(folder) as entries:
        for entry in entries:
            path = f"{below}{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                if entry.name != "__pycache__":
                    yield from _walk(entry.path, f"{path}/")
            else:
                yield path, entry
