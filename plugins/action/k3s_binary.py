# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copy the files of a release from a folder of the controller, and run the module `k3s_binary`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

# Caches the bytecode of later imports.
# pylint: disable-next=unused-import
import ansible_collections.crypto_lakehouse.platform.plugins.plugin_utils.bytecode  # noqa: F401 - for its effect

from ..module_utils.k3s_host.release import ARCHITECTURES, names, parse_sums, pinned_sums

MODULE = "crypto_lakehouse.platform.k3s_binary"


def release_folder(folder: Path, version: str) -> Path:
    """Return the subfolder with the release's name, as for an upgrade by several releases, else the folder itself."""
    own = folder / version
    return own if version and own.is_dir() else folder


def release_files(folder: Path, pinned: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Return the SHA-256 by name of the files of a release in a folder, for every architecture.

    A file without a checksum has an empty one, which the module rejects for a file that its host needs.
    """
    found = {}
    for architecture in ARCHITECTURES:
        known = names(architecture)
        listed = parse_sums(_text(folder / known.sums))
        for name in (known.binary, *known.images):
            if (folder / name).is_file():
                found[name] = {"path": "", "sha256": (pinned.get(name) or listed.get(name, "")).lower()}
    return found


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


class ActionModule(ActionBase):
    """Copies the files that differ to the host, and runs the module."""

    _supports_check_mode = True
    TRANSFERS_FILES = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the result of the module."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        if not arguments.get("airgap_dir"):
            return {**result, **self._module(arguments, task_vars)}
        version = str(arguments.get("version", ""))
        folder = release_folder(Path(str(arguments["airgap_dir"])).expanduser(), version)
        arguments["sources"] = release_files(folder, pinned_sums(arguments.get("checksums") or {}, version))
        compared = self._module({**arguments, "state": "compared"}, task_vars)
        if compared.get("failed") or self._task.check_mode or not compared.get("differs"):
            return {**result, **compared, "changed": bool(compared.get("differs"))}
        self._copy(folder, arguments["sources"], compared["pending"])
        return {**result, **self._module(arguments, task_vars)}

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
