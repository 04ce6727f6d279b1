# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The software of a host: the application's source, the lock of the Python packages, the distribution's packages.

Their digest is the name of the installation folder. An upgrade therefore never modifies running programs, and an
incomplete folder is never used as a complete one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

DIGEST_CHARACTERS = 12
_LEFT_OUT = frozenset(
    {"__pycache__", "tests", ".cache", ".venv", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".hypothesis"}
    # Files of the cluster image are excluded, because their changes would change the digest of a host's software.
    | {"Containerfile", ".dockerignore", "requirements-build.in", "requirements-build.txt"}
)


@dataclass(frozen=True)
class Software:
    """The files to install (path below the software's folder -> text), and the digest of all sources."""

    digest: str
    files: Mapping[str, str]

    def placed(self, folder: str) -> list[dict[str, str]]:
        """Return the files with their paths in `folder`."""
        return [{"path": f"{folder}/{path}", "content": text, "mode": "0600"} for path, text in self.files.items()]

    def digests(self) -> dict[str, str]:
        """Return the SHA-256 of each file by its path."""
        return {path: hashlib.sha256(text.encode()).hexdigest() for path, text in self.files.items()}


def read_tree(root: Path) -> dict[str, str]:
    """Return the text files below `root` by their relative path, in a stable order, without tests and caches."""
    return {
        path.relative_to(root).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(root.rglob("*"))
        if path.is_file() and not _LEFT_OUT.intersection(path.relative_to(root).parts) and path.suffix != ".pyc"
    }


def describe(application: Path, host: Path, packages: Sequence[str]) -> Software:
    """Return the software of a host.

    `application` is the source tree of the application. `host` contains the lock file and the scripts that unpack and
    link. `packages` are the names of the distribution's packages.
    """
    files = {f"application/{path}": text for path, text in read_tree(application).items()}
    for name in ("requirements.txt", "unpack_packages.py", "link_programs.py"):
        files[name] = (host / name).read_text(encoding="utf-8")
    subject = json.dumps([files, list(packages)], sort_keys=True)
    return Software(hashlib.sha256(subject.encode()).hexdigest()[:DIGEST_CHARACTERS], files)
