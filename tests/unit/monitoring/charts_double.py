# SPDX-License-Identifier: GPL-3.0-or-later
"""A chart in a folder or a package, and a Helm with scripted answers."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

HELM = "/usr/bin/helm"
DESCRIPTION = "apiVersion: v2\nname: stack\nversion: 1.2.3\nappVersion: v9\n"


def make_folder(root: Path, description: str = DESCRIPTION) -> Path:
    folder = root / "stack"
    folder.mkdir(parents=True)
    (folder / "Chart.yaml").write_text(description, encoding="utf-8")
    return folder


def make_package(path: Path, files: dict[str, str] | None = None) -> Path:
    """Write a package; `files` by their path in it."""
    with tarfile.open(path, "w:gz") as archive:
        for name, text in (files or {"stack/Chart.yaml": DESCRIPTION}).items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    return path


def checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@dataclass
class Helm:
    """Answers by the first matching word of a command; records its commands."""

    answers: dict[str, tuple[int, str, str]] = field(default_factory=dict)
    pulled: Callable[[Path], object] | None = None
    commands: list[list[str]] = field(default_factory=list)

    def __call__(self, command: Sequence[str]) -> tuple[int, str, str]:
        self.commands.append(list(command))
        if command[1] == "version" and "version" not in self.answers:
            return 0, "v4.2.3", ""
        if command[1] == "pull" and self.pulled:
            self.pulled(Path(command[command.index("--destination") + 1]))
        return self.answers.get(command[1], (0, "", ""))
