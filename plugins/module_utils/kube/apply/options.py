# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of an apply or a deletion of a set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..manifests.manifests import Manifest

FIELD_MANAGER = "crypto-lakehouse"


@dataclass(frozen=True)
class Options:
    """Options of the module.

    adopted_managers: managers whose fields are taken over, in addition to kubectl's client-side apply. namespace: of
    objects without one, and of the set's parent. prune: the name of the set, or empty. planned: objects that other
    tasks create, in a plan. wait_timeout_s: for readiness, and for deletions. replace: objects that may be deleted and
    created again where a field is immutable.
    """

    namespace: str = ""
    state: Literal["present", "absent"] = "present"
    only_plans: bool = False
    field_manager: str = FIELD_MANAGER
    force_conflicts: bool = False
    adopted_managers: tuple[str, ...] = ()
    create_namespace: bool = False
    prune: str = ""
    prune_limit: int = 20
    prune_data: bool = False
    wait: bool = False
    wait_timeout_s: float = 300.0
    parallelism: int = 16
    replace: Literal["never", "orphan", "always"] = "orphan"
    planned: tuple[Manifest, ...] = ()
