# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copy the files of a release from a folder of the controller, and run the module `k3s_binary`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

import ansible_collections.crypto_lakehouse.platform.plugins.plugin_utils.bytecode  # noqa: F401 - for its effect
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.errors import HostError
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s_host.release import expected_sum, names

MODULE = "crypto_lakehouse.platform.k3s_binary"


def release_files(folder: Path, architecture: str, pinned: dict[str, str]) -> dict[str, str]:
    """Return the SHA-256 by name of the binary and of an archive of images in a folder.

    Raises `HostError` where the binary or a checksum is missing.
    """
    known = names(architecture)
    if not (folder / known.binary).is_file():
        raise HostError(f"cannot install K3s: {folder / known.binary} is missing. Put the files of the release there.")
    images = [name for name in known.images if (folder / name).is_file()][:1]
    return {name: expected_sum(name, pinned, lambda: _sums(folder / known.sums)) for name in (known.binary, *images)}


def _sums(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise HostError(f"cannot verify K3s: {path}: {error.strerror}. Put it there, or set `k3s_checksums`.") from None


class ActionModule(ActionBase):
    """Runs the module, after the files that differ were copied to the host."""

    _supports_check_mode = True
    TRANSFERS_FILES = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the result of the module."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        try:
            if arguments.get("airgap_dir"):
                folder = Path(str(arguments["airgap_dir"])).expanduser()
                asked = self._module({**arguments, "sources": {}, "state": "compared"}, task_vars)
                if "architecture" not in asked:
                    return {**result, **asked}
                sums = release_files(folder, asked["architecture"], dict(arguments.get("checksums") or {}))
                arguments["sources"] = {name: {"path": "", "sha256": digest} for name, digest in sums.items()}
                compared = self._module({**arguments, "state": "compared"}, task_vars)
                if compared.get("failed") or self._task.check_mode:
                    return {**result, **compared, "changed": bool(compared.get("pending"))}
                self._copy(folder, arguments["sources"], compared["pending"])
            return {**result, **self._module(arguments, task_vars)}
        except HostError as error:
            return {**result, "failed": True, "msg": str(error)}

    def _module(self, arguments: dict[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        found: dict[str, Any] = self._execute_module(MODULE, arguments, task_vars=task_vars)
        return found

    def _copy(self, folder: Path, sources: dict[str, dict[str, str]], pending: list[str]) -> None:
        """Copy files to the temporary folder of the task, which Ansible removes."""
        if not pending:
            return
        self._make_tmp_path()
        for name in pending:
            path = self._connection._shell.join_path(self._connection._shell.tmpdir, name)
            self._transfer_file(str(folder / name), path)
            sources[name]["path"] = path
