# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prepare the process from which Ansible forks one process for each task.

The processes of all tasks share code that is loaded before the fork. Ansible loads its filters and tests after the
fork, when an expression first needs one. Most tasks spend more time on that than on their work.
"""

from __future__ import annotations

import functools
import gc

from ansible.plugins.loader import filter_loader, test_loader

# Objects created between two collections. Playbooks and inventories are tens of thousands of objects without garbage.
_ALLOCATIONS = 50_000


@functools.cache
def prepare() -> None:
    """Load the filters and tests of Ansible, and exempt existing objects from garbage collection.

    A collection in a forked process writes to each object that it visits, and thus copies the shared memory.
    """
    # The first filter loads all of them.
    filter_loader.get("default")
    test_loader.get("defined")
    gc.freeze()
    gc.set_threshold(_ALLOCATIONS, *gc.get_threshold()[1:])
