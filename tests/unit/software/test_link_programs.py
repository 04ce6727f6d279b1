# SPDX-License-Identifier: GPL-3.0-or-later
"""Links to a host's programs, and copies of programs that have a path compiled in."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[3] / "roles" / "host" / "files" / "link_programs.py"


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("link_programs", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # A dataclass looks up its module by name.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


link_programs = _load()


def _program(path: Path, text: str = "#!/bin/sh\necho ran\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o700)
    return path


def test_programs_that_cannot_be_run_are_named_and_nothing_is_linked(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("no program", encoding="utf-8")
    with pytest.raises(FileNotFoundError, match="absent, plain"):
        link_programs.link(tmp_path, {"plain": plain, "absent": tmp_path / "absent"})
    assert not (tmp_path / "bin").exists()


def test_links_are_relative_and_old_ones_go(tmp_path: Path) -> None:
    link_programs.link(tmp_path, {"old": _program(tmp_path / "venv" / "old")})
    link_programs.link(tmp_path, {"weed": _program(tmp_path / "venv" / "weed")})
    assert {path.name: str(path.readlink()) for path in (tmp_path / "bin").iterdir()} == {"weed": "../venv/weed"}


@pytest.mark.parametrize("name", link_programs.RELOCATIONS)
def test_a_replacement_is_as_long_as_the_path_that_is_compiled_in(name: str) -> None:
    for relocation in link_programs.RELOCATIONS[name]:
        assert len(relocation.replacement) == len(relocation.compiled)


def test_sockets_are_bound_where_the_object_store_is_started(tmp_path: Path) -> None:
    program = _program(tmp_path / "venv" / "weed", "#!/bin/sh\nprintf /tmp/seaweedfs-%s-grpc-%d.sock s3 18333\n")
    link_programs.link(tmp_path, {"weed": program})
    said = subprocess.run([tmp_path / "bin" / "weed"], capture_output=True, text=True, check=True)
    assert said.stdout == "/proc/self/cwd/s3-grpc-18333.sock"


def test_a_program_with_a_compiled_path_finds_its_files_below_the_packages(tmp_path: Path) -> None:
    root = tmp_path / "a folder"
    asset = root / "packages" / "usr" / "share" / "prometheus" / "alertmanager" / "default.tmpl"
    asset.parent.mkdir(parents=True)
    asset.write_text("template", encoding="utf-8")
    program = _program(root / "am", '#!/bin/sh\ncat /usr/share/prometheus/alertmanager/default.tmpl "$@"\n')
    link_programs.link(root, {"alertmanager": program})
    extra = tmp_path / "extra file"
    extra.write_text(" and argument", encoding="utf-8")
    said = subprocess.run([root / "bin" / "alertmanager", extra], capture_output=True, text=True, check=True, cwd="/")
    assert said.stdout == "template and argument"
    assert b"/usr/share" in program.read_bytes()


def test_a_program_that_runs_is_replaced_and_goes_on(tmp_path: Path) -> None:
    compiled = b"/tmp/seaweedfs-%s-grpc-%d.sock"
    program = tmp_path / "venv" / "weed"
    program.parent.mkdir()
    program.write_bytes(Path("/bin/cat").resolve().read_bytes() + compiled)
    program.chmod(0o700)
    link_programs.link(tmp_path, {"weed": program})
    with subprocess.Popen([tmp_path / "bin" / "weed"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        link_programs.link(tmp_path, {"weed": program})
        assert running.communicate(b"goes on", timeout=60)[0] == b"goes on"
    assert compiled not in (tmp_path / "relocated" / "weed").read_bytes()
    assert [path.name for path in (tmp_path / "relocated").iterdir()] == ["weed"]


def test_a_program_without_the_compiled_path_is_only_linked(tmp_path: Path) -> None:
    link_programs.link(tmp_path, {"alertmanager": _program(tmp_path / "am")})
    assert (tmp_path / "bin" / "alertmanager").is_symlink()
    assert not (tmp_path / "relocated").exists()


def test_completion_is_recorded_with_the_packages(tmp_path: Path) -> None:
    link_programs.complete(tmp_path, {"prometheus": "2.42.0"})
    assert json.loads((tmp_path / ".complete").read_text(encoding="utf-8")) == {"packages": {"prometheus": "2.42.0"}}
