# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules are packed once, not in every run of Ansible, and again after a change of a contained file."""

from __future__ import annotations

import base64
import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import pytest
from ansible import constants

from ansible_collections.crypto_lakehouse.platform.plugins.plugin_utils import payloads
from ansible_collections.crypto_lakehouse.platform.plugins.plugin_utils.payloads import Payloads, version

PLUGINS = "ansible_collections.crypto_lakehouse.platform.plugins"
OWN = f"{PLUGINS}.modules.host_files-ZIP_DEFLATED-none"
CORE = "ansible.modules.command-ZIP_DEFLATED-none"
# Data that Ansible keeps of a run and that this test must not keep.
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
    """Return payloads of a run that has packed a module."""
    packed = tmp_path / "packed"
    packed.mkdir()
    for name in (OWN, CORE, *OTHERS):
        (packed / name).write_text(name)
    return Payloads(packed, tmp_path / "home/kept/one")


def _next(made: Payloads, tmp_path: Path) -> set[str]:
    """Return the names that exist at the start of the next run."""
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


@dataclass(frozen=True)
class Packed:
    """Ansible's record of a packed module, as far as this code uses it."""

    zip_data: bytes


def _pack(path: Path, files: Mapping[str, bytes]) -> None:
    archive = BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        for name, content in files.items():
            packed.writestr(name, content)
    path.write_bytes(pickle.dumps(Packed(base64.b64encode(archive.getvalue()))))


def _archive(path: Path) -> bytes:
    record = pickle.loads(path.read_bytes())  # noqa: S301 - made by these tests
    return base64.b64decode(record.zip_data)


def _unpack(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(BytesIO(_archive(path))) as packed:
        return {name: packed.read(name) for name in packed.namelist()}


def _imported(path: Path, folder: Path) -> str:
    """Return the file from which a packed module is imported, and its name there."""
    archive = folder / "module.zip"
    archive.write_bytes(_archive(path))
    code = f"import sys; sys.path.insert(0, {str(archive)!r}); import common.one as one; print(one.__file__, one.NAME)"
    done = subprocess.run([sys.executable, "-I", "-c", code], check=True, capture_output=True, text=True)
    return done.stdout.strip().removeprefix(f"{archive}/")


@pytest.fixture
def compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Payloads:
    """Return payloads of a run whose modules ran with this Python on this machine."""
    monkeypatch.setattr(constants, "DEFAULT_LOCAL_TMP", str(tmp_path), raising=False)
    made = Payloads(tmp_path / "packed", tmp_path / "home/kept/one")
    made.use_compiled(sys.executable, "3.x")
    for name in (OWN, CORE):
        _pack(made.packed / name, {"common/__init__.py": b"", "common/one.py": f"NAME = {name!r}\n".encode()})
    made.keep()
    made.compile()
    return made


def _later(made: Payloads, tmp_path: Path, version: str) -> Path:
    """Return the folder of the packed modules of the next run, on a machine with this version of Python."""
    later = Payloads(tmp_path / "later", made.kept)
    later.restore()
    later.use_compiled(sys.executable, version)
    return later.packed


def test_the_next_run_on_this_machine_imports_bytecode(compiled: Payloads, tmp_path: Path) -> None:
    packed = _later(compiled, tmp_path, "3.x")
    assert [_imported(packed / name, tmp_path) for name in (OWN, CORE)] == [
        f"common/one.pyc {OWN}",
        f"common/one.pyc {CORE}",
    ]


def test_another_version_of_python_is_given_source(compiled: Payloads, tmp_path: Path) -> None:
    assert list(_unpack(_later(compiled, tmp_path, "3.y") / OWN)) == ["common/__init__.py", "common/one.py"]


def test_bytecode_of_another_version_is_not_imported(compiled: Payloads, tmp_path: Path) -> None:
    path = _later(compiled, tmp_path, "3.x") / OWN
    files = _unpack(path)
    other = {name: b"\0\0\r\n" + content[4:] for name, content in files.items() if name.endswith(".pyc")}
    assert len(other) == 2
    _pack(path, {**files, **other})
    assert _imported(path, tmp_path) == f"common/one.py {OWN}"


def test_bytecode_that_others_can_write_is_not_taken(compiled: Payloads, tmp_path: Path) -> None:
    (compiled.kept / "compiled-3.x").chmod(0o770)
    assert _imported(_later(compiled, tmp_path, "3.x") / OWN, tmp_path) == f"common/one.py {OWN}"


def test_modules_are_compiled_once(compiled: Payloads) -> None:
    folder = compiled.kept / "compiled-3.x"
    before = {path: path.stat().st_mtime_ns for path in (folder, *folder.iterdir())}
    compiled.compile()
    assert {path: path.stat().st_mtime_ns for path in (folder, *folder.iterdir())} == before


def test_a_python_that_cannot_compile_keeps_nothing(compiled: Payloads) -> None:
    compiled.use_compiled("/bin/false", "3.y")
    with pytest.raises(OSError, match="cannot compile modules"):
        compiled.compile()
    assert not (compiled.kept / "compiled-3.y").exists() or not list((compiled.kept / "compiled-3.y").iterdir())
