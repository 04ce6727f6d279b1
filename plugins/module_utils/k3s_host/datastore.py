# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The datastore of a stopped server: moved aside, copied, reset to one member, or restored from a snapshot."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..host.errors import HostError
from ..k3s.waits import last_message
from ..shared.commands import run_command
from .service import UNITS, read_service

UNIT = UNITS["server"]
# K3s writes it after a reset, and refuses another reset as long as it is there.
RESET_FLAG = "reset-flag"
DONE = "membership has been reset"
_ASSIGNMENT = re.compile(r'^([A-Za-z_]\w*)=(?:"((?:[^"\\]|\\.)*)"|(.*))$', re.MULTILINE | re.ASCII)


@dataclass(frozen=True)
class Datastore:
    """The etcd data of a server below its data directory."""

    data: Path

    @property
    def folder(self) -> Path:
        """The folder of datastores."""
        return self.data / "server/db"

    @property
    def etcd(self) -> Path:
        """The datastore that K3s uses."""
        return self.folder / "etcd"

    @property
    def exists(self) -> bool:
        """Whether there is a datastore."""
        return (self.etcd / "member").is_dir()

    def aside(self) -> Path:
        """Return a path for a datastore that is kept, with the time in its name."""
        return self.folder / time.strftime("etcd-aside-%Y%m%dT%H%M%SZ", time.gmtime())


def require_stopped() -> None:
    """Raise `HostError` while the server runs."""
    state = read_service(UNIT).state
    if state in ("active", "activating"):
        raise HostError(f"cannot change the datastore: {UNIT} is {state}. Stop it and run again.")


def move_aside(store: Datastore) -> str:
    """Rename the datastore and return its new path; empty without a datastore."""
    if not store.etcd.exists():
        return ""
    target = store.aside()
    store.etcd.rename(target)
    return str(target)


def copy_aside(store: Datastore) -> str:
    """Copy the datastore and return the path of the copy, which has its name once it is complete."""
    if not store.exists:
        raise HostError(f"cannot copy {store.etcd}: there is no datastore. Restore a snapshot.")
    size = sum(path.stat().st_size for path in store.etcd.rglob("*") if path.is_file())
    if size > shutil.disk_usage(store.folder).free:
        raise HostError(f"cannot copy {store.etcd}: its disk has less than {size >> 20} MiB free. Free some space.")
    draft, target = store.folder / "etcd-aside-draft", store.aside()
    shutil.rmtree(draft, ignore_errors=True)
    shutil.copytree(store.etcd, draft, symlinks=True)
    os.sync()
    draft.rename(target)
    return str(target)


def reset(store: Datastore, binary: str, environment: Path, timeout_s: float, snapshot: str = "") -> None:
    """Make the member of this host the only one, of its own data or of those of a snapshot.

    The configuration must not name another server. K3s moves a former datastore aside before it restores a snapshot.
    """
    if snapshot and not Path(snapshot).is_file():
        raise HostError(f"cannot restore {snapshot}: the file does not exist. List the snapshots.")
    with contextlib.suppress(FileNotFoundError):
        (store.folder / RESET_FLAG).unlink()
    restore = [f"--cluster-reset-restore-path={snapshot}"] if snapshot else []
    done = run_command([binary, "server", "--cluster-reset", *restore], timeout_s, read_environment(environment))
    if done.status or DONE not in done.output:
        cause = last_message(done.output, "fatal") or f"it ended with exit code {done.status}"
        verb = f"restore {snapshot}" if snapshot else "reset etcd"
        raise HostError(f"cannot {verb}: {cause}. Repair it and run again.")


def read_environment(path: Path) -> Mapping[str, str]:
    """Return the environment of a service: that of this process, with the assignments of its file."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    found = {name: re.sub(r"\\(.)", r"\1", quoted) or plain for name, quoted, plain in _ASSIGNMENT.findall(text)}
    return {**os.environ, **found}
