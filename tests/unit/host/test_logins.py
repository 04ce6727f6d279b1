# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys, jobs and units that give others access as the service user."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.logins import (
    Account,
    at_jobs,
    cron_jobs,
    foreign_logins,
    key_files,
    login_files,
    ssh_keys,
    user_units,
)

PLATFORM = Path("/srv/lakehouse")
KEY = "AAAAC3NzaC1lZDI1NTE5AAAAIBy/ehnYp+j+smaAF5aR3ZgHspHEDc1rZRbxCQtOEBNz"
FINGERPRINT = "SHA256:pqwFgFW9CnVM/NFkzwSJBsdX4ehcVpRYUO6nMJ70X9M"


@pytest.fixture
def account(tmp_path: Path) -> Account:
    return Account("lake", 998, tmp_path, PLATFORM)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (f"ssh-ed25519 {KEY} alice@laptop", "alice@laptop"),
        (f"ssh-ed25519 {KEY}", "ssh-ed25519"),
        (f'restrict,command="echo a b" ssh-ed25519 {KEY} of a robot', "of a robot"),
        (f"cert-authority sk-ssh-ed25519@openssh.com {KEY} ca", "ca"),
        ("ssh-ed25519 AAAA= x", "a line that is not a key"),
        ("whatever", "a line that is not a key"),
    ],
)
def test_each_key_is_named_by_its_fingerprint_with_its_comment(account: Account, line: str, told: str) -> None:
    path = account.home / ".ssh/authorized_keys"
    (found,) = ssh_keys(account, path, f"# a comment\n\n  {line}\n")
    assert (found["kind"], found["detail"]) == ("ssh-key", f"{told} in {path}")
    assert found["name"].startswith("lake/SHA256:") == (told != "a line that is not a key")


def test_the_fingerprint_is_that_of_ssh_keygen(account: Account) -> None:
    (found,) = ssh_keys(account, Path("/f"), f"ssh-ed25519 {KEY}")
    assert found["name"] == f"lake/{FINGERPRINT}"


def test_keys_are_looked_for_where_sshd_looks(account: Account, tmp_path: Path) -> None:
    folder = tmp_path / "etc/ssh/sshd_config.d"
    folder.mkdir(parents=True)
    default = [account.home / ".ssh/authorized_keys", account.home / ".ssh/authorized_keys2"]
    assert key_files(account, tmp_path) == default
    (folder.parent / "sshd_config").write_text("# AuthorizedKeysFile no\nauthorizedkeysfile /etc/keys/%u .ssh/%%more\n")
    (folder / "x.conf").write_text("Match User lake\n  AuthorizedKeysFile=%h/%U\nAuthorizedKeysFile none\n")
    assert key_files(account, tmp_path) == [
        *default,
        Path("/etc/keys/lake"),
        account.home / ".ssh/%more",
        account.home / "998",
    ]


def test_lines_of_the_crontab_are_told_without_their_arguments(account: Account) -> None:
    text = "# edited\nSHELL=/tmp/sh\n*/5 * * * * curl -u secret example.org\n@daily /tmp/x secret\n"
    found = list(cron_jobs(account, text))
    assert [each["detail"] for each in found] == ["sets SHELL in the crontab", "*/5 * * * * curl", "@daily /tmp/x"]
    assert len({each["name"] for each in found}) == len(found)
    assert "secret" not in str(found)


def test_the_documented_line_of_the_crontab_is_not_foreign(account: Account) -> None:
    start = "/srv/lakehouse/run/supervisor/start"
    assert list(cron_jobs(account, f"@reboot   {start}\n")) == []
    for line in (f"@reboot {start}; x", f"@daily {start}", f"@reboot /bin/sh {start}"):
        assert len(list(cron_jobs(account, line))) == 1


def test_jobs_of_at_are_told_with_their_time(account: Account) -> None:
    listed = "7\tMon Nov 30 20:00:00 2026 a lake\n8\tMon Nov 30 20:00:00 2026 a root\n"
    assert list(at_jobs(account, listed)) == [
        {"kind": "at-job", "name": "lake/7", "detail": "Mon Nov 30 20:00:00 2026"}
    ]


def test_units_of_the_user_and_files_that_let_others_in_are_found(account: Account) -> None:
    assert [*user_units(account), *login_files(account)] == []
    unit = account.home / ".config/systemd/user/default.target.wants/evil.service"
    unit.parent.mkdir(parents=True)
    unit.symlink_to("/nowhere")
    (account.home / ".rhosts").write_text("+ +\n")
    assert [each["name"] for each in user_units(account)] == ["lake/default.target.wants/evil.service"]
    assert [each["name"] for each in login_files(account)] == ["lake/.rhosts"]


def test_a_machine_without_cron_has_no_jobs(account: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    assert foreign_logins(account, tmp_path) == []
    crontab = tmp_path / "bin/crontab"
    crontab.parent.mkdir()
    crontab.write_text("#!/bin/sh\necho '@daily x'\n")
    crontab.chmod(0o700)
    monkeypatch.setenv("PATH", str(crontab.parent))
    assert [each["kind"] for each in foreign_logins(account, tmp_path)] == ["cron-job"]
    crontab.write_text("#!/bin/sh\necho 'no crontab for lake'\nexit 1\n")
    assert foreign_logins(account, tmp_path) == []
