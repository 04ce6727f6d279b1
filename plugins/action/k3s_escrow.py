# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Encrypt the credentials of a server on the controller, and store them beside the snapshots and in a folder."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

# Caches the bytecode of later imports.
# pylint: disable-next=unused-import
import ansible_collections.crypto_lakehouse.platform.plugins.plugin_utils.bytecode  # noqa: F401 - for its effect

from ..module_utils.k3s.snapshots import Escrow
from ..module_utils.k3s_host.snapshots import escrow_file
from ..plugin_utils.age import AgeError, encrypt

MODULE = "crypto_lakehouse.platform.k3s_escrow"
FOLDER_MODE, FILE_MODE = 0o700, 0o600


def keep(folder: Path, name: str, sealed: bytes) -> None:
    """Write an encrypted file below a folder of the controller, atomically."""
    folder.mkdir(parents=True, exist_ok=True, mode=FOLDER_MODE)
    # Tasks of several hosts write the same file concurrently.
    draft = folder / f".{name}.{os.getpid()}"
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE), "wb") as file:
        file.write(sealed)
    draft.replace(folder / name)


class ActionModule(ActionBase):
    """Encrypts credentials that the module reads, and stores them with the module."""

    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the name of the encrypted file; results do not contain credentials."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        data_dir = str(self._task.args.get("data_dir") or "/var/lib/rancher/k3s")
        if self._task.check_mode:
            return {**result, "changed": True}
        try:
            return {**result, **self._kept(data_dir, task_vars)}
        except (AgeError, OSError) as error:
            return {**result, "failed": True, "msg": f"cannot keep the credentials of K3s: {error}."}

    def _kept(self, data_dir: str, task_vars: dict[str, Any] | None) -> dict[str, Any]:
        read = self._execute_module(MODULE, {"data_dir": data_dir, "state": "read"}, task_vars=task_vars)
        if "escrow" not in read:
            return {"failed": True, "msg": str(read.get("msg") or "cannot read the credentials of K3s.")}
        found = read["escrow"]
        sealed = encrypt(json.dumps(found).encode(), list(self._task.args.get("recipients") or []))
        key = {"cluster_id": found["cluster_id"], "token_hash": found["token_hash"]}
        given = {"data_dir": data_dir, "state": "stored", "sealed": base64.b64encode(sealed).decode(), **key}
        stored = self._execute_module(MODULE, given, task_vars=task_vars)
        file = escrow_file(Escrow(**key))
        if not stored.get("failed") and self._task.args.get("folder"):
            keep(Path(str(self._task.args["folder"])).expanduser(), file, sealed)
        told: dict[str, Any] = {name: stored[name] for name in ("changed", "failed", "msg") if name in stored}
        return {**told, "file": file}
