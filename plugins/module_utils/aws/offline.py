# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All errors of a description that can be found without a call, in one report."""

from __future__ import annotations

import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..engine.errors import Fault
from ..engine.resource import Resource, Stack
from ..engine.world import examine
from .kind import AwsKind
from .limits import limit_faults
from .partitions import service_principals
from .regions import ATTRIBUTE as SUFFIX
from .rehearsal import RehearsalSession, rehearse
from .rules import RULES, partition_faults
from .session import Identity, Session
from .zones import ATTRIBUTE as ZONES

# The account is known after the first call.
_ACCOUNT = "000000000000"
# Their number is known later.
_ZONES = string.ascii_lowercase


@dataclass(frozen=True)
class Draft:
    """A description before the first call. kinds: those of its resources. secrets: their values by name."""

    name: str
    environment: str
    version: str
    resources: Sequence[Resource]
    kinds: Iterable[AwsKind]
    secrets: Mapping[str, str]


def description_faults(session: Session, draft: Draft) -> list[Fault]:
    """Return all errors of a description: of its own text, by the limits of AWS, and of the resulting requests."""
    partition = session.partition_of_region()
    identity = Identity(_ACCOUNT, partition, f"arn:{partition}:iam::{_ACCOUNT}:root")
    rehearsal = RehearsalSession(session, identity, session.suffix_of(partition))
    stack = Stack(draft.name, draft.environment, draft.version, _attributes(rehearsal))
    described = {resource.kind for resource in draft.resources}
    kinds = {kind.name: type(kind)(rehearsal) for kind in draft.kinds if kind.name in described}
    secrets = {name: stack.secret(value) for name, value in draft.secrets.items()}
    faults = [fault for rule in RULES for fault in rule(draft.resources)]
    faults += partition_faults(draft.resources, partition)
    examined = examine(stack, kinds.values(), draft.resources, secrets)
    faults += examined.faults
    for resource in draft.resources:
        kind, desired = kinds[resource.kind], examined.desired[resource.address]
        owner = stack.owner(resource.address, spans_regions=kind.schema.spans_regions)
        faults += limit_faults(resource.address, kind, desired)
        # Earlier findings were made with more knowledge of the description.
        told = {(fault.address, fault.path) for fault in faults}
        faults += [
            fault for fault in rehearse(rehearsal, kind, owner, desired) if (fault.address, fault.path) not in told
        ]
    return faults


def _attributes(session: RehearsalSession) -> dict[str, Any]:
    """Return the possible attributes for `${stack.X}`, as far as they are known."""
    region, identity = session.region, session.identity()
    return {
        "account_id": identity.account_id,
        "region": region,
        "partition": identity.partition,
        "dns_suffix": session.dns_suffix,
        "service_principals": service_principals(region, session.dns_suffix),
        ZONES: [f"{region}{letter}" for letter in _ZONES],
        SUFFIX: "",
    }
