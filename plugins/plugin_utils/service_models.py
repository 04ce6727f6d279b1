# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cache botocore's service models between runs. Importing this module enables the cache for the run.

botocore unpacks and parses a model, most of which is documentation, in each process that creates a client, and lists
the folders of all services. The models are cached in Ansible's home, without the documentation. They are read again
when botocore or the file changes.

An action imports this module before Ansible forks its process, so all processes share botocore's code.
"""

from __future__ import annotations

import contextlib
import marshal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible import constants
from ansible.utils.collection_loader import AnsibleCollectionConfig

try:
    import botocore

    # Imported for the processes that call AWS.
    # pylint: disable-next=unused-import
    import botocore.client
    import botocore.paginate
    import botocore.session
    from botocore.loaders import JSONFileLoader, Loader
except ImportError:
    # The modules that call AWS report the missing package.
    HAS_BOTOCORE = False
    JSONFileLoader = Loader = object  # type: ignore[misc,assignment]
else:
    HAS_BOTOCORE = True

from ..module_utils.aws import session
from .kept_files import is_own, make_folder, remove_old_versions, write

_EXTENSIONS = (".json", ".json.gz")
_DOCUMENTATION = frozenset({"documentation", "documentationUrl"})


@dataclass(frozen=True)
class Kept:
    """Cached values of botocore's files, in the folder of its version."""

    folder: Path

    def get(self, name: str, made_of: Path, make: Callable[[], Any]) -> Any:
        """Return a value, and cache it until its source file or folder changes."""
        status = made_of.stat()
        path = self.folder / f"{name}-{status.st_size}-{status.st_mtime_ns}"
        # The file is not pickled and not writable by other users: loading it returns data or raises an error.
        if is_own(self.folder) and is_own(path):
            with contextlib.suppress(OSError, ValueError, EOFError, TypeError):
                return marshal.loads(path.read_bytes())  # noqa: S302
        value = without_documentation(make())
        with contextlib.suppress(OSError):
            if make_folder(self.folder):
                write(path, marshal.dumps(value))
                remove_old_versions(self.folder)
        return value


class KeptFileLoader(JSONFileLoader):
    """Reads a file of botocore's data once."""

    def __init__(self, kept: Kept) -> None:
        self.kept = kept

    def load_file(self, file_path: str) -> Any:
        """Return the data of a file, given without its extension; None if it is missing."""
        found = next((path for end in _EXTENSIONS if (path := Path(f"{file_path}{end}")).is_file()), None)
        if found is None:
            return None
        name = "-".join(Path(file_path).relative_to(Loader.BUILTIN_DATA_PATH).parts)
        return self.kept.get(name, found, lambda: JSONFileLoader.load_file(self, file_path))


class KeptLoader(Loader):
    """Finds botocore's own data only."""

    def __init__(self, kept: Kept) -> None:
        super().__init__(file_loader=KeptFileLoader(kept))
        self.kept = kept

    def list_available_services(self, type_name: str) -> Any:
        """Return the names of the services that have data of a type."""
        place = Path(self.BUILTIN_DATA_PATH)
        return self.kept.get(f"services-{type_name}", place, lambda: Loader.list_available_services(self, type_name))


def without_documentation(value: Any) -> Any:
    """Return data of botocore as plain maps and lists with empty documentation."""
    if isinstance(value, Mapping):
        return {key: _without_documentation(key, item) for key, item in value.items()}
    return [without_documentation(item) for item in value] if isinstance(value, list) else value


def _without_documentation(key: str, value: Any) -> Any:
    # A member of a shape may have such a name; its value is a map.
    return "" if key in _DOCUMENTATION and isinstance(value, str) else without_documentation(value)


def use_kept(of_botocore: Any) -> None:
    """Use the cache in a session of botocore, unless the user has custom models."""
    if of_botocore.get_config_variable("data_path") or Path(Loader.CUSTOMER_DATA_PATH).is_dir():
        return
    home = Path(constants.config.get_config_value("ANSIBLE_HOME"))
    version = f"{botocore.__version__}-{sys.implementation.cache_tag}"
    of_botocore.register_component("data_loader", KeptLoader(Kept(home / "crypto_lakehouse_models" / version)))


def begin() -> None:
    """Use the cache for all sessions of a process of Ansible."""
    if HAS_BOTOCORE and AnsibleCollectionConfig.collection_finder in sys.meta_path:
        session.preparations[:] = [use_kept]


begin()
