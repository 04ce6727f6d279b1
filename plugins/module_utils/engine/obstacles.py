# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check before the first change whether resources can be deleted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .errors import Fault
from .perform import Performer
from .plan import Node
from .planning import Proposal
from .resource import Obstructed

Each = Callable[[Callable[[Any], Any], Sequence[Any]], Sequence[Any]]


def obstacle_faults(proposal: Proposal, each: Each) -> list[Fault]:
    """Return a fault for each obstacle to a deletion or replacement. each: calls a function with every item."""
    performer = Performer(proposal)

    def asked(node: Node) -> list[Fault]:
        kind = proposal.description.kinds[node.kind]
        if not isinstance(kind, Obstructed):
            return []
        validation_errors = kind.obstacles(performer.removal(node, proposal.actuals[node.address]))
        return [Fault(node.address, *validation_error) for validation_error in validation_errors]

    going = [node for node in proposal.plan.nodes if node.action in {"delete", "replace"} and node.id]
    return [fault for faults in each(asked, going) for fault in faults]
