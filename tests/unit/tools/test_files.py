# SPDX-License-Identifier: GPL-3.0-or-later
"""The forbidden texts are composed here, so that this file does not contain them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tools import check_files as check

FORBIDDEN = {
    "AWS key": ("notes.md", "key " + "AK" + "IA" + "ABCDEFGHIJKLMNOP"),
    "private key": ("id", "-----BEGIN " + "OPENSSH PRIVATE KEY" + "-----"),
    "GitHub token": ("x.py", "gh" + "p_" + "a" * 36),
    "Slack token": ("x.yml", "xox" + "b-" + "1234567890ab"),
    "Slack webhook": ("x.yml", "https://hooks.slack.com" + "/services/T00000000/B00000000/" + "a" * 24),
    "web token": ("x", "ey" + "JhbGciOiJIUzI1" + "." + "ey" + "JzdWIiOiIxMjM0" + "." + "sig"),
    "password in an address": ("x.cfg", "https://user:" + "hunter2@registry.corp.net/simple"),
    "merge conflict": ("x.py", "<" * 7 + " HEAD"),
    "index in a lock": ("requirements.txt", "--index-url " + "https://registry.corp.net/simple"),
    "links in a nested lock": ("roles/a/files/requirements.txt", "--find-links " + "/opt/wheels"),
    "address of a package": ("requirements-dev.in", "a @ https" + "://registry.corp.net/a.whl"),
}
ALLOWED = {
    "public key": ("id.pub", "-----BEGIN PUBLIC KEY-----"),
    "address without password": ("x.md", "https://registry.corp.net/simple"),
    "documentation's address": ("x.md", "https://user:password@proxy.example.com:3128"),
    "template": ("x.j2", "postgresql://{{ user }}:{{ password }}@{{ host }}/lakehouse"),
    "placeholder": ("x.yml", "postgresql://lakehouse:${secret_value.password|url}@db.internal/lakehouse"),
    "hash": ("requirements.txt", "a==1 --hash=sha256:00"),
    "pattern of its own": ("forbidden_patterns.txt", check.PATTERNS.read_text("utf-8")),
}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    return tmp_path


def write(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(f"first line\n{text}\n", "utf-8")


@pytest.mark.parametrize(("name", "text"), FORBIDDEN.values(), ids=FORBIDDEN)
def test_a_forbidden_text_is_found_and_not_repeated(
    repository: Path, name: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write(repository, name, text)
    assert check.main([str(repository)]) == 1
    message = capsys.readouterr().err
    assert message.startswith(f"{name}:2: ")
    assert text not in message


@pytest.mark.parametrize(("name", "text"), ALLOWED.values(), ids=ALLOWED)
def test_a_harmless_text_passes(repository: Path, name: str, text: str) -> None:
    write(repository, name, text)
    assert check.main([str(repository)]) == 0


def test_what_git_ignores_is_not_read(repository: Path) -> None:
    write(repository, ".gitignore", ".venv/")
    write(repository, ".venv/notes.md", FORBIDDEN["AWS key"][1])
    assert check.main([str(repository)]) == 0


def test_a_binary_file_is_not_read(repository: Path) -> None:
    (repository / "data.bin").write_bytes(b"\0" + FORBIDDEN["AWS key"][1].encode())
    assert check.main([str(repository)]) == 0
