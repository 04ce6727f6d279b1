# SPDX-License-Identifier: GPL-3.0-or-later
"""Unpack packages of the distribution below a folder, without installing them.

Unpacking runs no maintainer script: no service is started or enabled, no user is made, no file outside the folder is
written, and no root is needed. apt checks what it downloads against the distribution's signatures, with the machine's
own sources and keys, and a state folder of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

# Web pages, scripts and fonts that a package links to by a relative path. Libraries and programs that a package needs
# beyond these are part of every supported system (the packages in question are static Go programs and libc).
PAGE_PACKAGES = re.compile(r"^(libjs|fonts|node)-[a-z0-9.+-]+$")
PACKAGE_NAME = re.compile(r"^[a-z0-9][a-z0-9.+-]+$")


class PackageError(Exception):
    """A package cannot be had or unpacked; the message names it."""


class Apt:
    """apt with its lists and downloads in a folder of its own."""

    def __init__(self, state: Path) -> None:
        self.archives = state / "archives"
        self.lists = state / "lists"
        for folder in (self.archives / "partial", self.lists / "partial"):
            folder.mkdir(parents=True, exist_ok=True)
        self._options = [
            f"--option=Dir::State::Lists={self.lists}",
            f"--option=Dir::Cache={state}",
            f"--option=Dir::Cache::archives={self.archives}",
            # Images of containers switch them off, and each command then reads all lists again.
            "--option=Dir::Cache::pkgcache=pkgcache.bin",
            "--option=Dir::Cache::srcpkgcache=srcpkgcache.bin",
            "--option=Debug::NoLocking=1",
            "--option=APT::Sandbox::User=",
            "--option=Acquire::Retries=3",
        ]

    def run(self, program: str, *arguments: str, folder: Path | None = None) -> str:
        """Run apt-get or apt-cache and return what it prints; raise `PackageError` with its last words."""
        command = [program, "-qq", *self._options, *arguments]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=_environment(), check=False)
        if done.returncode != 0:
            words = (done.stderr or done.stdout).strip().splitlines()
            raise PackageError(f"{program} {arguments[0]}: {words[-1] if words else done.returncode}")
        return done.stdout

    def update(self) -> None:
        """Read the package lists of the machine's sources."""
        self.run("apt-get", "update")

    def candidates(self, names: Sequence[str]) -> dict[str, str]:
        """Return the version that would be installed of each package that there is."""
        versions: dict[str, str] = {}
        name = ""
        for line in self.run("apt-cache", "policy", *names).splitlines() if names else []:
            if line and not line[0].isspace():
                name = line.rstrip(":")
            elif line.strip().startswith("Candidate:") and "(none)" not in line:
                versions[name] = line.split(":", 1)[1].strip()
        return versions

    def page_packages(self, names: Sequence[str]) -> list[str]:
        """Return the packages of web pages that the named ones depend on."""
        words = ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")
        switches = [f"--no-{word}" for word in words]
        text = self.run("apt-cache", "depends", "--recurse", *switches, *names)
        found = {line.strip() for line in text.splitlines() if line and not line[0].isspace()}
        return sorted(name for name in found if PAGE_PACKAGES.match(name))

    def download(self, versions: dict[str, str]) -> list[Path]:
        """Download packages, unless they are there already, and return their files."""
        wanted = {name: self._file(name, version) for name, version in versions.items()}
        missing = [f"{name}={versions[name]}" for name, path in wanted.items() if path is None]
        if missing:
            self.run("apt-get", "download", *missing, folder=self.archives)
        files = {name: self._file(name, version) for name, version in versions.items()}
        absent = [name for name, path in files.items() if path is None]
        if absent:
            raise PackageError(f"apt-get download left no file for {', '.join(absent)}")
        return [path for path in files.values() if path is not None]

    def _file(self, name: str, version: str) -> Path | None:
        # apt writes the colon of an epoch as %3a.
        pattern = f"{name}_{version.replace(':', '%3a')}_*.deb"
        return next(iter(sorted(self.archives.glob(pattern))), None)


def _environment() -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}


def unpack(files: Sequence[Path], into: Path) -> None:
    """Unpack package files below `into`, which appears whole or not at all."""
    partial = into.with_name(f"{into.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for path in files:
        subprocess.run(["dpkg-deb", "--extract", str(path), str(partial)], check=True, env=_environment())
    shutil.rmtree(into, ignore_errors=True)
    partial.rename(into)


def fetch(state: Path, into: Path, required: Sequence[str], optional: Sequence[str]) -> dict[str, str]:
    """Download and unpack packages with the pages they link to; return name and version of what is there."""
    apt = Apt(state)
    try:
        apt.update()
    except PackageError:
        if not apt.candidates(required):
            raise
    versions = apt.candidates([*required, *optional])
    missing = [name for name in required if name not in versions]
    if missing:
        raise PackageError(f"no package source of this machine has {', '.join(missing)}")
    pages = apt.candidates(apt.page_packages(list(versions)))
    unpack(apt.download({**versions, **pages}), into)
    return versions


def main(arguments: Sequence[str] | None = None) -> int:
    """Print name and version of the unpacked packages as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--state", type=Path, required=True, help="folder of apt's lists and downloads")
    parser.add_argument("--into", type=Path, required=True, help="folder to unpack below")
    parser.add_argument(
        "--optional", action="append", default=[], metavar="PACKAGE", help="package to leave out where there is none"
    )
    parser.add_argument("packages", nargs="+", metavar="PACKAGE")
    options = parser.parse_args(arguments)
    for name in [*options.packages, *options.optional]:
        if not PACKAGE_NAME.match(name):
            parser.error(f"{name!r} is not the name of a package")
    os.umask(0o077)
    try:
        print(json.dumps(fetch(options.state, options.into, options.packages, options.optional)))
    except (PackageError, OSError, subprocess.CalledProcessError) as error:
        print(f"unpack_packages: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
