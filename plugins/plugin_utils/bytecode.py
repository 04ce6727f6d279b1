# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cache the bytecode of this collection between runs. Importing this module enables the cache for later imports.

Ansible's own loader of collections compiles every file in every run. Python's loader compiles a file once, and again
when it changes. Without write permission, it also compiles in every run.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

from ansible.utils.collection_loader import AnsibleCollectionConfig

_PLUGINS = __name__.rpartition(".plugin_utils.")[0]
_CODE = tuple(f"{_PLUGINS}.{folder}." for folder in ("module_utils", "modules", "plugin_utils"))


class Finder(MetaPathFinder):
    """Finds the files of this collection, except packages: Ansible creates those without a file."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, _target: ModuleType | None = None, /
    ) -> ModuleSpec | None:
        """Return the spec of a file of this collection, with Python's own loader."""
        if not fullname.startswith(_CODE):
            return None
        name = f"{fullname.rpartition('.')[2]}.py"
        file = next((file for folder in path or () if (file := Path(folder, name)).is_file()), None)
        return None if file is None else spec_from_file_location(fullname, file)


def keep() -> None:
    """Insert the finder before Ansible's, if that is in use and this one is not yet installed."""
    theirs = AnsibleCollectionConfig.collection_finder
    if theirs in sys.meta_path and not any(isinstance(one, Finder) for one in sys.meta_path):
        sys.meta_path.insert(sys.meta_path.index(theirs), Finder())


keep()
