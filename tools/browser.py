# SPDX-License-Identifier: GPL-3.0-or-later
"""Prepare the distribution's Chromium for tests without root: the installed one, or an unpacked one.

Missing dependencies of Chromium are unpacked beside it, and the program starts with these libraries.
"""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = "chromium"
INSTALLED = re.compile(r"^Inst (\S+)", re.MULTILINE)
SHARED_LIBRARY = re.compile(r".+\.so(?:\.[\d.]+)?")


def unpacking() -> ModuleType:
    """Return the host role's module that unpacks packages."""
    path = REPOSITORY / "roles/host/files/unpack_packages.py"
    spec = importlib.util.spec_from_file_location("unpack_packages", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def prepare(folder: Path) -> Path:
    """Return the program that starts Chromium; it is written into `folder`."""
    launcher, installed = folder / PACKAGE, shutil.which(PACKAGE)
    folder.mkdir(parents=True, exist_ok=True)
    if installed:
        command = f"exec {shlex.quote(installed)}"
    else:
        unpacked = folder / "packages"
        unpack_missing(unpacking(), folder / "apt", unpacked)
        paths = ":".join(str(path) for path in library_folders(unpacked.resolve()))
        program = shlex.quote(str(unpacked.resolve() / "usr/lib/chromium/chromium"))
        command = f"export LD_LIBRARY_PATH={shlex.quote(paths)}\nexec {program}"
    launcher.write_text(f'#!/bin/sh\n{command} "$@"\n', encoding="utf-8")
    launcher.chmod(0o755)
    return launcher


def library_folders(unpacked: Path) -> list[Path]:
    """Return every folder with shared libraries, outer ones first: some libraries find others by an absolute path."""
    files = (path for path in (unpacked / "usr/lib").rglob("*.so*") if SHARED_LIBRARY.fullmatch(path.name))
    return sorted({path.parent for path in files}, key=lambda path: (len(path.parts), path))


def unpack_missing(packages: ModuleType, state: Path, into: Path) -> None:
    """Download and unpack Chromium with its missing dependencies."""
    apt = packages.Apt(state)
    apt.update()
    planned = apt.run("apt-get", "install", "--simulate", "--no-install-recommends", PACKAGE)
    names = INSTALLED.findall(planned)
    packages.unpack(apt.download(apt.candidates(names)), into)


def main(arguments: Sequence[str]) -> int:
    """Prepare the browser in the given folder."""
    prepare(Path(arguments[0]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
