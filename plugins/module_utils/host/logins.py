# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find undescribed access to the service user: SSH keys, cron jobs, units of the user.

Files that only root can read do not grant access: sshd reads keys as the user, and root does not need a key.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import pwd
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..shared.commands import run_command

SSH_KEY, CRON_JOB, AT_JOB, USER_UNIT, LOGIN_FILE = "ssh-key", "cron-job", "at-job", "user-unit", "login-file"
DEFAULT_KEY_FILES = (".ssh/authorized_keys", ".ssh/authorized_keys2")
"""Default files of sshd (sshd_config(5), AuthorizedKeysFile)."""
LOGIN_FILES = (".rhosts", ".shosts", ".k5login", ".k5users")
"""Files of hosts and Kerberos principals that log in without a password."""
UNIT_FOLDERS = (".config/systemd/user", ".local/share/systemd/user")
COMMAND_TIMEOUT_S = 10.0
_KEY = re.compile(r"(?:^|\s)((?:sk-)?(?:ssh|ecdsa)-[A-Za-z0-9@.-]+)\s+([A-Za-z0-9+/]+=*)(?:\s+(.*))?$")
_VARIABLE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)\s*=")

Report = dict[str, str]


@dataclass(frozen=True)
class Account:
    """The service user. `home` is the home of its passwd entry, `platform` the folder of the lakehouse."""

    name: str
    uid: int
    home: Path
    platform: Path


def own_account(platform: Path) -> Account:
    """Return the account of the user that runs this process. Raise `KeyError` for a user without a passwd entry."""
    entry = pwd.getpwuid(os.geteuid())
    return Account(entry.pw_name, entry.pw_uid, Path(entry.pw_dir), platform)


def foreign_logins(account: Account, root: Path = Path("/")) -> list[Report]:
    """Return reports (`kind`, `name`, `detail`) of the access on the machine, read as the user itself."""
    jobs = ((_said(["crontab", "-l"]), cron_jobs), (_said(["atq"]), at_jobs))
    return [
        *(report for path in key_files(account, root) for report in ssh_keys(account, path, _read(path))),
        *(report for text, reports in jobs for report in reports(account, text)),
        *user_units(account),
        *login_files(account),
    ]


def key_files(account: Account, root: Path = Path("/")) -> list[Path]:
    """Return sshd's files of the account's keys, from all lines of its configuration.

    Lines for other users are also used, so that no file is missed.
    """
    folder = root / "etc/ssh"
    named: list[str] = []
    for path in (folder / "sshd_config", *sorted((folder / "sshd_config.d").glob("*.conf"))):
        for line in _read(path).splitlines():
            words = line.replace("=", " ", 1).split()
            if words and words[0].lower() == "authorizedkeysfile":
                named += words[1:]
    values = {"%%": "%", "%h": str(account.home), "%u": account.name, "%U": str(account.uid)}
    expanded = [re.sub("%.", lambda found: values.get(found[0], found[0]), name) for name in named if name != "none"]
    return [account.home / name for name in dict.fromkeys([*DEFAULT_KEY_FILES, *expanded])]


def ssh_keys(account: Account, path: Path, text: str) -> Iterator[Report]:
    """Yield each key of an `authorized_keys` file (sshd(8)), with its fingerprint as name."""
    for line in _lines(text):
        found = _KEY.search(line)
        name = _fingerprint(found[2]) if found else ""
        comment = (found[3] or found[1]) if found and name else "a line that is not a key"
        yield _report(SSH_KEY, account, name or _digest(line), f"{comment} in {path}")


def _fingerprint(encoded: str) -> str:
    """Return the fingerprint as shown by `ssh-keygen -l`, empty without a valid key."""
    try:
        digest = hashlib.sha256(base64.b64decode(encoded, validate=True)).digest()
    except binascii.Error:
        return ""
    return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


def cron_jobs(account: Account, text: str) -> Iterator[Report]:
    """Yield each line of the user's crontab except the documented one, by digest: a command may contain a secret."""
    for line in _lines(text):
        variable = _VARIABLE.match(line)
        words = line.split()
        times = 1 if words[0].startswith("@") else 5
        if variable:
            yield _report(CRON_JOB, account, _digest(line), f"sets {variable[1]} in the crontab")
        elif not _starts_services(account, words):
            yield _report(CRON_JOB, account, _digest(line), " ".join(words[: times + 1]))


def _starts_services(account: Account, words: Sequence[str]) -> bool:
    """Return whether a line is the documented one, which starts the services at boot."""
    return words == ["@reboot", str(account.platform / "run/supervisor/start")]


def at_jobs(account: Account, text: str) -> Iterator[Report]:
    """Yield each `at` job of the user, as listed by `atq`: number, time, queue and user."""
    for line in _lines(text):
        number, _blank, rest = line.partition("\t")
        if number.isdecimal() and rest.split()[-1:] == [account.name]:
            yield _report(AT_JOB, account, number, " ".join(rest.split()[:-2]))


def user_units(account: Account) -> Iterator[Report]:
    """Yield units of the user's own systemd, which run at login, or at boot if lingering is enabled."""
    for folder in UNIT_FOLDERS:
        for place, _folders, files in os.walk(account.home / folder):
            for name in sorted(files):
                path = Path(place, name)
                yield _report(USER_UNIT, account, str(path.relative_to(account.home / folder)), f"in {path}")


def login_files(account: Account) -> Iterator[Report]:
    """Yield files that allow other users to log in without a password."""
    for name in LOGIN_FILES:
        path = account.home / name
        if os.path.lexists(path):
            yield _report(LOGIN_FILE, account, name, f"in {account.home}")


def _report(kind: str, account: Account, name: str, detail: str) -> Report:
    return {"kind": kind, "name": f"{account.name}/{name}", "detail": detail}


def _lines(text: str) -> Iterator[str]:
    return (line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#"))


def _digest(line: str) -> str:
    return hashlib.sha256(line.encode(errors="surrogateescape")).hexdigest()[:12]


def _read(path: Path) -> str:
    """Return the text of a file, empty if it is missing or not readable."""
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""


def _said(command: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
    """Return the output of a program, empty if it is not installed or fails."""
    try:
        done = run_command(command, COMMAND_TIMEOUT_S, environment)
    except (OSError, TimeoutError):
        return ""
    return "" if done.status else done.output
