# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a set is to be applied or deleted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..manifests.manifests import Manifest

FIELD_MANAGER = "crypto-lakehouse"


@dataclass(frozen=True)
class Options:
    """What the module is told.

    adopted_managers: whose fields are taken over, beside kubectl's client-side apply. namespace: of what names none,
    and of the set's parent. prune: the name of the set, empty for none. planned: what other tasks of the run
    bring, in a run that only plans. wait_timeout_s: for readiness, and for deletions. replace: which objects may be
    deleted and created again where the API does not let a field change.
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
