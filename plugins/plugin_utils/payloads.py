# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cache packed modules between runs. Importing this module enables the cache for the run.

Ansible packs a module with all its imports once in a run, for which it parses 100 files. The packed modules of a run
are copied to Ansible's home when it ends, and into the next run when it starts. They contain only code, and are packed
again when a file of this collection or of Ansible changes.

Modules are source code, which Python compiles in each task. For the controller itself, modules are also cached with the
bytecode of the Python that runs them there. On other machines, they would take longer to transfer.
"""

from __future__ import annotations

import atexit
import base64
import contextlib
import hashlib
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import ansible
from ansible import constants
from ansible.plugins.loader import module_utils_loader
from ansible.release import __version__ as ansible_version
from ansible.utils.collection_loader import AnsibleCollectionConfig

from .kept_files import is_own, make_folder, remove_old_versions, write

_PLUGINS = __name__.rpartition(".plugin_utils.")[0]
# Modules of other collections are not cached, because their changes are not detected.
_KEPT = (f"{_PLUGINS}.modules.", "ansible.modules.")
# Modules with a debugger's additions are only for their run, and partially written ones are incomplete.
_NOT_KEPT = ("~", ".lock", "-part")
_DEBUGGER = "debug"
_COMPILER = Path(__file__).with_name("compile_payloads.py")
_COMPILE_LIMIT_S = 120
# Payloads of this run; empty outside of Ansible.
_KEPT_OF_RUN: list[Payloads] = []


@dataclass(frozen=True)
class Payloads:
    """Packed modules: those of a run in Ansible's own folder (`packed`), and the cached ones of one version."""

    packed: Path
    kept: Path

    @property
    def interpreter(self) -> Path:
        """Return the file with path and version of the Python that runs modules on this machine."""
        return self.packed / "interpreter"

    def use_compiled(self, python: str, version: str) -> None:
        """Replace the modules of a run by cached ones with bytecode of a Python."""
        self.packed.mkdir(parents=True, exist_ok=True)
        write(self.interpreter, f"{python}\n{version}".encode())
        compiled = self._compiled(version)
        if is_own(self.kept) and is_own(compiled):
            for path in filter(is_own, compiled.iterdir()):
                if _is_payload(path.name):
                    write(self.packed / path.name, path.read_bytes())

    def compile(self) -> None:
        """Cache modules with bytecode of the Python that ran them on this machine, if one did."""
        if not self.interpreter.exists() or not is_own(self.kept):
            return
        python, version = self.interpreter.read_text(encoding="utf-8").split("\n")
        compiled = self._compiled(version)
        sources = [path for path in filter(is_own, self.kept.iterdir()) if _is_payload(path.name)]
        missing = [path for path in sources if not (compiled / path.name).exists()]
        if missing and make_folder(compiled):
            for path, content in zip(missing, _with_bytecode(python, missing), strict=True):
                write(compiled / path.name, content)

    def _compiled(self, version: str) -> Path:
        return self.kept / f"compiled-{version}"

    def restore(self) -> None:
        """Copy cached modules into a run, except those that others can write, because Ansible unpickles them."""
        if not is_own(self.kept):
            return
        self.packed.mkdir(parents=True, exist_ok=True)
        for path in filter(is_own, self.kept.iterdir()):
            if _is_payload(path.name) and not (self.packed / path.name).exists():
                write(self.packed / path.name, path.read_bytes())

    def keep(self) -> None:
        """Copy the packed modules of a run to the cache, and remove those of the oldest versions."""
        made = [path for path in self.packed.glob("*") if _is_payload(path.name)]
        missing = [path for path in made if not (self.kept / path.name).exists()]
        if not missing:
            return
        if not make_folder(self.kept):
            return
        for path in missing:
            write(self.kept / path.name, path.read_bytes())
        remove_old_versions(self.kept)


def _with_bytecode(python: str, payloads: Sequence[Path]) -> list[bytes]:
    """Return packed modules with bytecode of this Python. Raises OSError if they cannot be compiled."""
    modules = [pickle.loads(path.read_bytes()) for path in payloads]  # noqa: S301 - files of this user, as Ansible's are
    with tempfile.TemporaryDirectory(dir=constants.DEFAULT_LOCAL_TMP) as folder:
        archives = [Path(folder, f"{path.name}.zip") for path in payloads]
        for archive, module in zip(archives, modules, strict=True):
            archive.write_bytes(base64.b64decode(module.zip_data))
        command = [python, "-I", "-S", str(_COMPILER), folder]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=_COMPILE_LIMIT_S)
        except subprocess.SubprocessError as error:
            raise OSError(f"cannot compile modules: {error}") from error
        packed = [base64.b64encode(archive.read_bytes()) for archive in archives]
    return [pickle.dumps(replace(module, zip_data=data)) for module, data in zip(modules, packed, strict=True)]


def _is_payload(name: str) -> bool:
    return name.startswith(_KEPT) and not any(word in name for word in _NOT_KEPT) and _DEBUGGER not in name


def version(folders: list[Path]) -> str:
    """Return a digest of Ansible's version, and of the name, size and time of each Python file below the folders."""
    digest = hashlib.sha256(repr([ansible_version, sys.version_info[:3]]).encode())
    for folder in folders:
        for path, status in sorted(_files(str(folder))):
            digest.update(repr((path, status)).encode())
    return digest.hexdigest()[:16]


def _files(folder: str) -> Iterator[tuple[str, tuple[int, int]]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from _files(entry.path)
            elif entry.name.endswith(".py"):
                status = entry.stat()
                yield entry.path, (status.st_size, status.st_mtime_ns)


def _has_other_utilities(own: Path) -> bool:
    """Return whether files of the user may override Ansible's own in packed modules."""
    return any(Path(path) != own and Path(path).is_dir() for path in module_utils_loader._get_paths(subdirs=False))


def of_this_run() -> Payloads | None:
    """Return the payloads of this run, None outside of Ansible and for unusual payloads."""
    core, plugins = Path(ansible.__file__).parent, Path(__file__).resolve().parents[1]
    if AnsibleCollectionConfig.collection_finder not in sys.meta_path or _has_other_utilities(core / "module_utils"):
        return None
    folders = [core / "module_utils", core / "modules", plugins / "module_utils", plugins / "modules"]
    home = Path(constants.config.get_config_value("ANSIBLE_HOME"))
    return Payloads(
        Path(constants.DEFAULT_LOCAL_TMP, "ansiballz_cache"), home / "crypto_lakehouse_payloads" / version(folders)
    )


def _keep_at_exit(payloads: Payloads, pid: int) -> None:
    # Only the process that registered this runs it, not its forked workers.
    if os.getpid() == pid:
        with contextlib.suppress(OSError):
            payloads.keep()
            payloads.compile()


def use_compiled(python: str, version: str) -> None:
    """Use cached modules with bytecode of the Python that runs them on this machine."""
    with contextlib.suppress(OSError):
        if _KEPT_OF_RUN:
            _KEPT_OF_RUN[0].use_compiled(python, version)


def begin() -> None:
    """Restore cached modules, and cache those of this run when it ends; do neither without a usable home."""
    with contextlib.suppress(OSError):
        payloads = of_this_run()
        if payloads:
            payloads.restore()
            _KEPT_OF_RUN.append(payloads)
            atexit.register(_keep_at_exit, payloads, os.getpid())


begin()
