# SPDX-License-Identifier: GPL-3.0-or-later
"""The object store's own shell.

SeaweedFS keeps identities outside of its configuration among its own files. Its S3 API shows only some of them, and
cannot change them.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from crypto_lakehouse.bootstrap.ledger import BootstrapError

TIMEOUT_S: Final = 60.0
_WORD: Final = re.compile(r"[A-Za-z0-9_+=,.@:/-]{1,256}")
"""Names that can be an argument: the shell splits its lines at blanks."""


def read_identities(master: str) -> dict[str, Any]:
    """Return the configuration of identities: `identities`, `serviceAccounts` and `groups`, with their secrets.

    Raises:
        BootstrapError: when the shell cannot be run or does not answer with it.
    """
    said = _run(master, "s3.iam.export")
    try:
        found: dict[str, Any] = json.loads(said[said.index("{") : said.rindex("}") + 1])
    except ValueError:
        raise BootstrapError("the shell of the object store does not list its identities") from None
    return found


def disable_user(master: str, name: str) -> None:
    """Reject a user's keys from now on. Buckets that it owns stay.

    Raises:
        BootstrapError: when the shell cannot be run or rejects the command, or the name cannot be an argument.
    """
    _change(master, "s3.user.disable", "-name", name)


def delete_service_account(master: str, name: str) -> None:
    """Delete a service account, which has keys and owns nothing; raises as `disable_user` does."""
    _change(master, "s3.serviceaccount.delete", "-id", name)


def delete_group(master: str, name: str) -> None:
    """Delete a group, which grants its policies to its members; raises as `disable_user` does."""
    _change(master, "s3.group.delete", "-name", name)


def _change(master: str, command: str, option: str, name: str) -> None:
    if not _WORD.fullmatch(name):
        raise BootstrapError(f"cannot name {name!r} to the shell of the object store")
    said = _run(master, f"{command} {option}={name}")
    errors = [line for line in said.splitlines() if line.startswith("error:")]
    if errors:
        raise BootstrapError(f"the shell of the object store refuses {command}: {errors[0].removeprefix('error: ')}")


def _run(master: str, command: str) -> str:
    """Run one command. Its output may contain secrets, so messages never contain it."""
    folders = [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]
    program = shutil.which("weed", path=os.pathsep.join(folders))
    if program is None:
        raise BootstrapError("cannot find the shell of the object store, `weed`")
    try:
        done = subprocess.run(
            [program, "-logtostderr=true", "shell", f"-master={master}"],
            input=f"{command}\nexit\n",
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BootstrapError(f"cannot run the shell of the object store: {type(error).__name__}") from None
    if done.returncode:
        raise BootstrapError(f"the shell of the object store ended with status {done.returncode}")
    return done.stdout + "".join(line for line in done.stderr.splitlines(keepends=True) if line.startswith("error:"))
