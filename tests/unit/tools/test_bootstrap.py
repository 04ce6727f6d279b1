# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tools import bootstrap

REPOSITORY = Path(__file__).resolve().parents[3]
LOCKS = sorted(
    path
    for path in [*REPOSITORY.glob("requirements*.txt"), *REPOSITORY.glob("roles/*/files/requirements*.txt")]
    if path.is_file()
)


def fake_pip(folder: Path, listing: str) -> list[str]:
    """Return a pip that answers `config list`."""
    script = folder / "pip.py"
    script.write_text(f"print({listing!r})")
    return [sys.executable, str(script)]


def test_pip_settings_of_the_environment_win_over_files(tmp_path: Path) -> None:
    listing = (
        ":env:.index-url='https://env.example/simple'\n"
        "global.extra-index-url='\\nhttps://a.example/simple\\nhttps://b.example/simple'\n"
        "global.index-url='https://file.example/simple'\n"
        "install.find-links='/wheels'\n"
        "freeze.timeout='1'\n"
    )
    assert bootstrap.pip_settings(fake_pip(tmp_path, listing)) == {
        "index-url": "https://env.example/simple",
        "extra-index-url": "https://a.example/simple https://b.example/simple",
        "find-links": "/wheels",
    }


def test_a_pip_that_fails_has_no_settings() -> None:
    assert bootstrap.pip_settings([sys.executable, "-c", "raise SystemExit(1)"]) == {}


def test_pip_settings_become_uv_settings() -> None:
    settings = {
        "index-url": "https://mirror.example/simple",
        "extra-index-url": "https://more.example/simple",
        "cert": "/etc/ca.pem",
        "trusted-host": "mirror.example",
        "color": "never",
    }
    environment = bootstrap.uv_environment({"PATH": "/bin"}, settings)
    assert environment["UV_DEFAULT_INDEX"] == "https://mirror.example/simple"
    assert environment["UV_INDEX"] == "https://more.example/simple"
    assert environment["UV_INDEX_STRATEGY"] == "unsafe-best-match"
    assert environment["SSL_CERT_FILE"] == "/etc/ca.pem"
    assert environment["UV_INSECURE_HOST"] == "mirror.example"
    assert environment["PATH"] == "/bin"


def test_what_uv_was_told_wins_over_pip() -> None:
    environment = bootstrap.uv_environment(
        {"UV_INDEX_URL": "https://uv.example/simple", "SSL_CERT_FILE": "/uv.pem"},
        {"index-url": "https://pip.example/simple", "extra-index-url": "https://more.example", "cert": "/pip.pem"},
    )
    assert "UV_DEFAULT_INDEX" not in environment
    assert "UV_INDEX" not in environment
    assert environment["SSL_CERT_FILE"] == "/uv.pem"


def test_without_a_certificate_file_the_systems_certificates_are_used() -> None:
    assert bootstrap.uv_environment({}, {})["UV_SYSTEM_CERTS"] == "true"
    assert "UV_SYSTEM_CERTS" not in bootstrap.uv_environment({"SSL_CERT_DIR": "/certs"}, {})


def test_an_activated_environment_is_not_the_one_that_changes() -> None:
    assert "VIRTUAL_ENV" not in bootstrap.uv_environment({"VIRTUAL_ENV": "/elsewhere"}, {})


def test_without_pip_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(bootstrap.BootstrapError, match="No pip was found"):
        bootstrap.fetch_uv(None, tmp_path)


def test_a_pip_that_cannot_reach_the_index_ends_in_a_message(tmp_path: Path) -> None:
    with pytest.raises(bootstrap.BootstrapError, match="could not fetch uv"):
        bootstrap.fetch_uv([sys.executable, "-c", "raise SystemExit(1)"], tmp_path)


def test_uv_is_fetched_with_the_hashes_of_the_lock() -> None:
    lines = bootstrap.pinned_uv().splitlines()
    assert re.fullmatch(r"uv==[\d.]+ \\", lines[0])
    assert len(lines) > 2
    assert all(re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}( \\)?", line) for line in lines[1:])


def pins(lock: Path) -> dict[str, set[str]]:
    """Return the versions of each package in a lock, with their markers."""
    found: dict[str, set[str]] = {}
    for line in lock.read_text("utf-8").splitlines():
        if name := re.match(r"([a-z0-9][\w.-]*(?:\[[\w,-]+\])?)==(\S+)", line):
            found.setdefault(name[1].split("[")[0], set()).add(name[2])
    return found


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_every_package_of_a_lock_has_hashes_and_no_address(lock: Path) -> None:
    text = lock.read_text("utf-8")
    blocks = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    assert len(blocks) == sum(len(versions) for versions in pins(lock).values()) > 0
    assert [block.split()[0] for block in blocks if "--hash=sha256:" not in block] == []
    assert "://" not in text


def test_the_development_lock_changes_no_version_of_the_controllers() -> None:
    controller, development = (pins(REPOSITORY / name) for name in ("requirements.txt", "requirements-dev.txt"))
    assert {name: versions for name, versions in controller.items() if development.get(name) != versions} == {}


def test_the_test_lock_changes_no_version_of_the_hosts() -> None:
    hosts, tests = (pins(REPOSITORY / name) for name in ("roles/host/files/requirements.txt", "requirements-test.txt"))
    assert {name: versions for name, versions in tests.items() if name in hosts and hosts[name] != versions} == {}


def run_python_finder(path: list[Path], home: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.pathsep.join(map(str, [*path, "/usr/bin", "/bin"])), "HOME": str(home), **variables}
    command = [str(REPOSITORY / "tools" / "python"), "-c", "print('ran')"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def shim(folder: Path, name: str, script: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)
    return folder


def test_a_broken_interpreter_is_passed_over(tmp_path: Path) -> None:
    broken = shim(tmp_path / "shims", "python3.14", "echo 'command not found' >&2; exit 127")
    working = shim(tmp_path / "my python", "python3.14", f'echo chosen >&2; exec "{sys.executable}" "$@"')
    done = run_python_finder([broken, working], tmp_path)
    assert done.stdout == "ran\n"
    assert done.stderr == "chosen\n"


def test_the_named_interpreter_is_taken(tmp_path: Path) -> None:
    mine = shim(tmp_path / "bin", "mine", f'echo mine >&2; exec "{sys.executable}" "$@"')
    done = run_python_finder([], tmp_path, PYTHON=str(mine / "mine"))
    assert done.stdout == "ran\n"
    assert done.stderr == "mine\n"


def test_a_named_interpreter_that_does_not_work_is_refused(tmp_path: Path) -> None:
    done = run_python_finder([], tmp_path, PYTHON="/bin/false")
    assert done.returncode == 1
    assert "PYTHON=/bin/false is not a working Python" in done.stderr


def test_a_machine_without_python_is_told_what_to_install(tmp_path: Path) -> None:
    for name in ("sh", "head"):
        (tmp_path / name).symlink_to(f"/bin/{name}" if Path(f"/bin/{name}").exists() else f"/usr/bin/{name}")
    command = [str(REPOSITORY / "tools" / "python"), "-c", "print('ran')"]
    environment = {"PATH": str(tmp_path), "HOME": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "No working Python 3.11 to 3.14 was found" in done.stderr
