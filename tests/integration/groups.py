# SPDX-License-Identifier: GPL-3.0-or-later
"""Groups of tests that one process runs, and their order."""

from __future__ import annotations

from pathlib import PurePosixPath

from xdist.scheduler import LoadScopeScheduling

# The modules of one lakehouse, in this order. The longest ones begin first. An upgrade cannot be undone.
GROUPS = {
    "replaced": ("test_secrets", "test_upgrade", "test_disaster", "test_destroy"),
    "repaired": (
        "test_plan",
        "test_listeners",
        "test_pages",
        "test_recovery",
        "test_backup",
        "test_interrupted_restore",
        "test_backup_folder",
    ),
    "interruption": ("test_interruption",),
    "inventories": ("test_inventories",),
}
GROUP_OF = {module: group for group, modules in GROUPS.items() for module in modules}
ORDER = tuple(GROUP_OF)


def group_of(nodeid: str) -> str:
    """Return the group of a test, which is the test alone where it shares no resources."""
    path = PurePosixPath(nodeid.partition("::")[0])
    if path.parent.name == "monitoring":
        # They share running programs.
        return "monitoring"
    if path.parent.name == "k3s":
        # They share a cluster, which they change one after the other.
        return "k3s"
    if path.stem == "test_unpack_packages":
        # They share the downloads.
        return path.stem
    return GROUP_OF.get(path.stem, nodeid) if path.parent.name == "deploy" else nodeid


class Groups(LoadScopeScheduling):
    """Assigns each whole group to one process, in the order of the tests."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)
