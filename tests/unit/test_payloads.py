# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules are packed once, not in every run of Ansible, and again when a file changes that they hold."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.plugin_utils import payloads
from ansible_collections.crypto_lakehouse.platform.plugins.plugin_utils.payloads import Payloads, version

PLUGINS = "ansible_collections.crypto_lakehouse.platform.plugins"
OWN = f"{PLUGINS}.modules.host_files-ZIP_DEFLATED-none"
CORE = "ansible.modules.command-ZIP_DEFLATED-none"
# What Ansible keeps of a run that nothing here may keep.
OTHERS = (
    "ansible_collections.kubernetes.core.plugins.modules.k8s-ZIP_DEFLATED-none",
    "ansible.legacy.command-ZIP_DEFLATED-none",
    f"{OWN}.lock",
    f"{OWN}-part",
    f"{PLUGINS}.modules.host_files-ZIP_DEFLATED-debugpy",
    f"{PLUGINS}.modules.host_files-ZIP_DEFLATED-one~other",
)


@pytest.fixture
def made(tmp_path: Path) -> Payloads:
    """Payloads of a run that has packed something."""
    packed = tmp_path / "packed"
    packed.mkdir()
    for name in (OWN, CORE, *OTHERS):
        (packed / name).write_text(name)
    return Payloads(packed, tmp_path / "home/kept/one")


def _next(made: Payloads, tmp_path: Path) -> set[str]:
    """Return the names of what the next run begins with."""
    later = Payloads(tmp_path / "later", made.kept)
    later.restore()
    return {path.name for path in later.packed.glob("*")}


def test_the_next_run_has_what_was_packed_of_this_collection_and_of_ansible(made: Payloads, tmp_path: Path) -> None:
    made.keep()
    assert _next(made, tmp_path) == {OWN, CORE}
    assert (tmp_path / "later" / OWN).read_text() == OWN


def test_what_others_can_read_or_write_is_neither_made_nor_taken(made: Payloads, tmp_path: Path) -> None:
    made.keep()
    assert made.kept.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in made.kept.iterdir()} == {0o600}
    (made.kept / OWN).chmod(0o620)
    assert _next(made, tmp_path) == {CORE}
    made.kept.chmod(0o770)
    shutil.rmtree(tmp_path / "later")
    assert _next(made, tmp_path) == set()


def test_a_link_is_not_followed(made: Payloads, tmp_path: Path) -> None:
    made.keep()
    (made.kept / OWN).unlink()
    (made.kept / OWN).symlink_to(made.packed / OWN)
    assert _next(made, tmp_path) == {CORE}


def test_nothing_is_written_where_everything_is_kept(made: Payloads) -> None:
    made.keep()
    before = {path: path.stat().st_mtime_ns for path in (made.kept, *made.kept.iterdir())}
    made.keep()
    assert {path: path.stat().st_mtime_ns for path in (made.kept, *made.kept.iterdir())} == before


def test_a_few_versions_are_kept(made: Payloads) -> None:
    for number in range(9):
        folder = made.kept.parent / str(number)
        folder.mkdir(parents=True)
        os.utime(folder, (number, number))
    made.keep()
    assert {path.name for path in made.kept.parent.iterdir()} == {made.kept.name, "8", "7", "6"}


def test_a_changed_added_or_removed_file_makes_another_version(tmp_path: Path) -> None:
    folder = tmp_path / "module_utils/deep"
    folder.mkdir(parents=True)
    (folder / "one.py").write_text("A = 1\n")
    versions = [version([tmp_path / "module_utils"])]
    (folder / "one.py").write_text("A = 22\n")
    versions.append(version([tmp_path / "module_utils"]))
    (folder / "two.py").touch()
    versions.append(version([tmp_path / "module_utils"]))
    os.utime(folder / "two.py", (1, 1))
    versions.append(version([tmp_path / "module_utils"]))
    assert len(set(versions)) == len(versions)
    assert version([tmp_path / "module_utils"]) == versions[-1]


def test_outside_of_ansible_nothing_is_kept() -> None:
    assert payloads.of_this_run() is None
