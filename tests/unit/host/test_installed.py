# SPDX-License-Identifier: GPL-3.0-or-later
"""Installed software compared with its manifest and its source."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.installed import (
    COMPLETE,
    MANIFEST,
    Damage,
    clear,
    examine,
    record,
)

SITE = "venv/lib/python3.13/site-packages"
FILES = {
    "application/src/crypto_lakehouse/cli.py": "print(1)\n",
    "requirements.txt": "dep==1\n",
    f"{SITE}/crypto_lakehouse/cli.py": "print(1)\n",
    f"{SITE}/crypto_lakehouse-1.0.0.dist-info/RECORD": "crypto_lakehouse/cli.py,sha256=x,9\n",
    f"{SITE}/some_dep/code.py": "a = 1\n",
    f"{SITE}/Some_Dep-1.2.dist-info/RECORD": "some_dep/code.py,sha256=x,6\n../../../bin/dep,sha256=x,3\n",
    "venv/bin/dep": "#!x",
    "venv/pyvenv.cfg": "home = /usr/bin",
    "packages/usr/bin/prometheus": "program",
}
CLI, DEP = f"{SITE}/crypto_lakehouse/cli.py", f"{SITE}/some_dep/code.py"


@dataclass(frozen=True)
class Installation:
    folder: Path
    sources: dict[str, str]

    def damage(self) -> Damage:
        return examine(self.folder, self.sources)


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/dep").symlink_to("../venv/bin/dep")
    (tmp_path / COMPLETE).write_text("{}")
    record(tmp_path)
    sources = {
        name: hashlib.sha256(FILES[name].encode()).hexdigest()
        for name in ("application/src/crypto_lakehouse/cli.py", "requirements.txt")
    }
    return Installation(tmp_path, sources)


def test_an_untouched_installation_is_intact_and_byte_code_is_no_damage(installation: Installation) -> None:
    cache = installation.folder / SITE / "some_dep/__pycache__"
    cache.mkdir()
    (cache / "code.cpython-313.pyc").write_bytes(b"x")
    assert installation.damage() == Damage({})


def _append(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text("#\n" + FILES[name])


def _same_size_and_time(folder: Path) -> None:
    before = (folder / CLI).stat()
    (folder / CLI).write_text("print(2)\n")
    os.utime(folder / CLI, ns=(before.st_atime_ns, before.st_mtime_ns))


def _point_elsewhere(folder: Path) -> None:
    (folder / "bin/dep").unlink()
    (folder / "bin/dep").symlink_to("/bin/sh")


DAMAGES: dict[str, tuple[Callable[[Path], object], Damage]] = {
    "source": (
        _append("application/src/crypto_lakehouse/cli.py"),
        Damage({"application/src/crypto_lakehouse/cli.py": "differs"}),
    ),
    "lock": (lambda folder: (folder / "requirements.txt").unlink(), Damage({"requirements.txt": "is missing"})),
    "application": (_append(CLI), Damage({CLI: "differs"}, distributions=("crypto-lakehouse",))),
    "application with its time put back": (
        _same_size_and_time,
        Damage({CLI: "differs"}, distributions=("crypto-lakehouse",)),
    ),
    "dependency": (_append(DEP), Damage({DEP: "differs"}, distributions=("some-dep",))),
    "removed file": (
        lambda folder: (folder / DEP).unlink(),
        Damage({DEP: "is missing"}, distributions=("some-dep",)),
    ),
    "mode": (
        lambda folder: (folder / "venv/bin/dep").chmod(0o777),
        Damage({"venv/bin/dep": "has the mode 0777"}, distributions=("some-dep",)),
    ),
    "record of a dependency": (
        _append(f"{SITE}/Some_Dep-1.2.dist-info/RECORD"),
        Damage({f"{SITE}/Some_Dep-1.2.dist-info/RECORD": "differs"}, distributions=("some-dep",)),
    ),
    "link": (
        _point_elsewhere,
        Damage({"bin/dep": "differs"}),
    ),
    "package": (
        _append("packages/usr/bin/prometheus"),
        Damage({"packages/usr/bin/prometheus": "differs"}, packages=True),
    ),
    "extra module": (
        lambda folder: (folder / SITE / "sitecustomize.py").write_text("x"),
        Damage({f"{SITE}/sitecustomize.py": "is not part of the software"}),
    ),
    "extra link": (
        lambda folder: (folder / "venv/bin/more").symlink_to("/bin/sh"),
        Damage({"venv/bin/more": "is not part of the software"}),
    ),
    "environment": (
        _append("venv/pyvenv.cfg"),
        Damage({"venv/pyvenv.cfg": "differs"}, everything=True),
    ),
    "no manifest": (
        lambda folder: (folder / MANIFEST).unlink(),
        Damage({MANIFEST: "is missing or damaged"}, everything=True),
    ),
    "damaged manifest": (
        lambda folder: (folder / MANIFEST).write_text("[]"),
        Damage({MANIFEST: "is missing or damaged"}, everything=True),
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_each_change_is_found_with_what_has_to_be_installed_again(installation: Installation, name: str) -> None:
    change, expected = DAMAGES[name]
    change(installation.folder)
    assert installation.damage() == expected


@pytest.mark.parametrize("name", DAMAGES)
def test_a_cleared_installation_is_incomplete_and_lacks_what_was_damaged(installation: Installation, name: str) -> None:
    DAMAGES[name][0](installation.folder)
    damage = installation.damage()
    clear(installation.folder, damage)
    assert not (installation.folder / COMPLETE).exists()
    if not damage.everything:
        assert not any(os.path.lexists(installation.folder / path) for path in damage.paths)
    left = {path.name for path in installation.folder.glob(f"{SITE}/*.dist-info")}
    assert ("Some_Dep-1.2.dist-info" in left) == ("some-dep" not in damage.distributions and not damage.everything)


def test_without_digests_of_the_source_the_rest_is_compared(installation: Installation) -> None:
    assert not examine(installation.folder, {})
    _append(DEP)(installation.folder)
    assert examine(installation.folder, {}).paths == {DEP: "differs"}


def test_a_touched_file_with_the_recorded_content_is_intact(installation: Installation) -> None:
    os.utime(installation.folder / DEP, (1, 1))
    assert not installation.damage()
