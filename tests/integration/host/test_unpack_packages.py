# SPDX-License-Identifier: GPL-3.0-or-later
"""Packages of the distribution, downloaded by the real apt and unpacked without being installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.patience import HANG_S

SCRIPT = Path(__file__).parents[3] / "roles" / "host" / "files" / "unpack_packages.py"
UNREACHABLE = {f"{scheme}_proxy": "http://127.0.0.1:9" for scheme in ("http", "https")}


def _unpack(
    state: Path, into: Path, *arguments: str, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), f"--state={state}", f"--into={into}", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **(environment or {})}, timeout=HANG_S
    )


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("apt")


def test_a_package_that_nobody_has_is_named_and_nothing_is_unpacked(state: Path, tmp_path: Path) -> None:
    done = _unpack(state, tmp_path / "packages", "prometheus-node-exporter", "no-such-package-anywhere")
    assert done.returncode == 1
    assert "no-such-package-anywhere" in done.stderr
    assert not (tmp_path / "packages").exists()


@pytest.mark.parametrize("name", ["--evil", "UPPER", "a b", ".."])
def test_what_is_no_name_of_a_package_is_refused(state: Path, tmp_path: Path, name: str) -> None:
    assert _unpack(state, tmp_path / "packages", f"--optional={name}", "prometheus-node-exporter").returncode == 2


def test_required_packages_are_unpacked_and_optional_ones_that_are_missing_left_out(
    state: Path, tmp_path: Path
) -> None:
    into = tmp_path / "packages"
    done = _unpack(state, into, "--optional=no-such-package-anywhere", "prometheus-node-exporter")
    assert done.returncode == 0, done.stderr
    assert list(json.loads(done.stdout)) == ["prometheus-node-exporter"]
    version = subprocess.run(
        [into / "usr/bin/prometheus-node-exporter", "--version"], capture_output=True, text=True, check=True
    )
    assert "node_exporter" in version.stdout + version.stderr
    assert "prometheus-node-exporter" not in subprocess.run(
        ["dpkg-query", "--show", "--showformat=${db:Status-Abbrev}${Package}\n"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.replace("un prometheus-node-exporter", "")


def test_what_was_downloaded_is_enough_when_no_source_can_be_reached(state: Path, tmp_path: Path) -> None:
    first = _unpack(state, tmp_path / "one", "prometheus-node-exporter")
    assert first.returncode == 0, first.stderr
    again = _unpack(state, tmp_path / "two", "prometheus-node-exporter", environment=UNREACHABLE)
    assert again.returncode == 0, again.stderr
    assert again.stdout == first.stdout


def test_a_folder_that_was_there_is_replaced_as_a_whole(state: Path, tmp_path: Path) -> None:
    into = tmp_path / "packages"
    (into / "usr").mkdir(parents=True)
    (into / "usr" / "stale").touch()
    done = _unpack(state, into, "prometheus-node-exporter")
    assert done.returncode == 0, done.stderr
    assert not (into / "usr" / "stale").exists()
