# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""List snapshots and escrows of the controller, or copy a snapshot or the content of an escrow to a host."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

# Caches the bytecode of later imports.
# pylint: disable-next=unused-import
import ansible_collections.crypto_lakehouse.platform.plugins.plugin_utils.bytecode  # noqa: F401 - for its effect

from ..module_utils.k3s.shapes import as_plain
from ..module_utils.k3s.snapshots import Escrow
from ..module_utils.k3s_host.snapshots import FOLDER
from ..plugin_utils.k3s_recovery import Folder, RecoveryError, opened

MODULE = "crypto_lakehouse.platform.k3s_recovery"
COPY = "ansible.legacy.copy"


class ActionModule(ActionBase):
    """Reads the controller's folder, and sends only required data to a host."""

    _supports_check_mode = True
    TRANSFERS_FILES = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the result of a state; results do not contain credentials."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        calls = {"listed": self._listed, "copied": self._copied, "placed": self._placed}
        state = str(self._task.args.get("state", ""))
        if state not in calls:
            return {**result, "failed": True, "msg": f"state {state!r} is not one of {', '.join(calls)}."}
        try:
            return {**result, **calls[state](task_vars)}
        except (RecoveryError, OSError) as error:
            return {**result, "failed": True, "msg": str(error)}

    def _text(self, name: str, default: str = "") -> str:
        return str(self._task.args.get(name) or default)

    @property
    def _folder(self) -> Folder | None:
        path = self._text("folder")
        return Folder(Path(path).expanduser()) if path else None

    @property
    def _data_dir(self) -> str:
        return self._text("data_dir", "/var/lib/rancher/k3s")

    def _listed(self, _task_vars: Any) -> dict[str, Any]:
        folder = self._folder
        if folder is None:
            return {"changed": False, "snapshots": [], "escrows": []}
        return {"changed": False, "snapshots": as_plain(folder.snapshots()), "escrows": as_plain(folder.escrows())}

    def _copied(self, task_vars: Any) -> dict[str, Any]:
        name = self._text("name")
        source = self._folder.find(name) if self._folder else None
        if source is None:
            raise RecoveryError(f"cannot copy {name}: it is not in the folder. Set `k3s_restore_folder`.")
        task = self._task.copy()
        task.args = {"src": str(source), "dest": f"{self._data_dir}/{FOLDER}/{name}", "mode": "0600", "force": True}
        directory = {"path": f"{self._data_dir}/{FOLDER}", "state": "directory", "mode": "0700"}
        made = self._execute_module("ansible.legacy.file", directory, task_vars=task_vars)
        if made.get("failed") or (made.get("changed") and self._task.check_mode):
            return dict(made)
        action = self._shared_loader_obj.action_loader.get(
            COPY,
            task=task,
            connection=self._connection,
            play_context=self._play_context,
            loader=self._loader,
            templar=self._templar,
            shared_loader_obj=self._shared_loader_obj,
        )
        return dict(action.run(task_vars=task_vars))

    def _placed(self, task_vars: Any) -> dict[str, Any]:
        if self._task.check_mode:
            return {"changed": True}
        escrow = Escrow(self._text("cluster_id"), self._text("token_hash"))
        key = {"cluster_id": escrow.cluster_id, "token_hash": escrow.token_hash, "data_dir": self._data_dir}
        sealed = self._folder.sealed(escrow) if self._folder else b""
        if not sealed:
            found = self._execute_module(MODULE, {"state": "sealed", **key}, task_vars=task_vars)
            sealed = base64.b64decode(found.get("sealed") or "")
        if not sealed:
            raise RecoveryError("cannot find the escrow. Set `k3s_restore_folder` to a folder that holds it.")
        found = opened(sealed, self._text("identity"), escrow)
        placed = self._execute_module(MODULE, {"state": "placed", "escrow": found, **key}, task_vars=task_vars)
        # The arguments of the module would repeat the credentials.
        placed.pop("invocation", None)
        return dict(placed)
