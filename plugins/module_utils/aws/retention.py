# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys of retained resources: a key is deleted no earlier than the last resource that needs it."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..engine.plan import Node
from ..engine.planning import Proposal
from .kind import AwsKind, Retained
from .session import Session
from .spelling import key_id

_KEY = "kms_key"
_WINDOW = "deletion_window_in_days"
_DAY_S = 86_400.0
_STAYS = frozenset({"none", "update", "adopt"})


def retained(session: Session, proposal: Proposal, kinds: Mapping[str, AwsKind]) -> list[Retained]:
    """Return encrypted resources that remain after a plan: existing ones, and those that deletions leave.

    Empty, without a call, where the plan does not delete a key.
    """
    going = [node for node in proposal.plan.nodes if node.action in {"delete", "replace"} and node.id]
    if not any(node.kind == _KEY for node in going):
        return []
    left = [item for node in going for item in kinds[node.kind].retains(proposal.actuals[node.address])]
    left += _in_use(proposal)
    words = {word for node in going for word in proposal.actuals[node.address].words}
    sources: tuple[Callable[[Session, frozenset[str]], Iterable[Retained]], ...] = (
        _database_snapshots,
        _volume_snapshots,
        _secrets,
        _log_groups,
        _recovery_points,
    )
    found = session.each(lambda source: list(source(session, frozenset(words))), sources)
    return left + [item for items in found for item in items]


def keep_keys(proposal: Proposal, items: Sequence[Retained]) -> Proposal:
    """Return a plan that keeps keys of permanently retained resources, and schedules other deletions late enough."""
    nodes: list[Node] = []
    actuals, kept = dict(proposal.actuals), dict(proposal.kept)
    for node in proposal.plan.nodes:
        mine = _encrypted(node, proposal, items)
        for_good = sorted({item.what for item in mine if item.days is None})
        latest = max(mine, key=lambda item: item.days or 0, default=None)
        if for_good:
            kept[node.address] = f"kept, since it encrypts {', '.join(for_good)}"
            # The key needs no action; a run with prune does not list it.
            if proposal.plan.state == "absent":
                nodes.append(replace(node, action="none", reason=kept[node.address]))
            else:
                del actuals[node.address]
        elif latest is not None and (latest.days or 0) > _window(node, proposal):
            actual = actuals[node.address]
            actuals[node.address] = replace(actual, properties={**actual.properties, _WINDOW: latest.days})
            reason = f"in {latest.days} days, as long as {latest.what} can be restored"
            nodes.append(replace(node, reason="; ".join(filter(None, (node.reason, reason)))))
        else:
            nodes.append(node)
    return replace(proposal, plan=replace(proposal.plan, nodes=tuple(nodes)), actuals=actuals, kept=kept)


def _encrypted(node: Node, proposal: Proposal, items: Sequence[Retained]) -> list[Retained]:
    if node.kind != _KEY or node.action != "delete":
        return []
    names = {key_id(word) for word in proposal.actuals[node.address].words}
    return [item for item in items if key_id(item.key) in names]


def _window(node: Node, proposal: Proposal) -> int:
    return int(proposal.actuals[node.address].properties.get(_WINDOW) or 0)


def _in_use(proposal: Proposal) -> Iterator[Retained]:
    """Yield the resources of the stack that remain, each with the keys in its properties."""
    for node in proposal.plan.nodes:
        if node.id and node.kind != _KEY and proposal.plan.state == "present" and node.action in _STAYS:
            for key in _keys(proposal.actuals[node.address].properties):
                yield Retained(node.id, node.address, key)


def _keys(value: Any, name: str = "") -> Iterator[str]:
    """Yield the texts in properties with a name of keys: `kms_key_id`, `encryption.kms_key`."""
    if isinstance(value, Mapping):
        for inner, part in value.items():
            yield from _keys(part, str(inner))
    elif isinstance(value, list):
        for part in value:
            yield from _keys(part, name)
    elif isinstance(value, str) and "key" in name:
        yield value


def _database_snapshots(session: Session, _going: frozenset[str]) -> Iterator[Retained]:
    for item in session.pages("rds", "describe_db_snapshots", "DBSnapshots", SnapshotType="manual"):
        if item.get("KmsKeyId"):
            name = item["DBSnapshotIdentifier"]
            yield Retained(name, f"the database snapshot {name}", item["KmsKeyId"])


def _volume_snapshots(session: Session, _going: frozenset[str]) -> Iterator[Retained]:
    for item in session.pages("ec2", "describe_snapshots", "Snapshots", OwnerIds=["self"]):
        if item.get("KmsKeyId"):
            yield Retained(item["SnapshotId"], f"the snapshot {item['SnapshotId']}", item["KmsKeyId"])


def _secrets(session: Session, going: frozenset[str]) -> Iterator[Retained]:
    for item in session.pages("secretsmanager", "list_secrets", "SecretList", IncludePlannedDeletion=True):
        # Secrets that a service manages are deleted with their resource.
        if not item.get("KmsKeyId") or item.get("OwningService") or item["ARN"] in going:
            continue
        date = item.get("DeletedDate")
        yield Retained(
            item["ARN"], f"the secret {item['Name']}", item["KmsKeyId"], None if date is None else _days(date)
        )


def _log_groups(session: Session, going: frozenset[str]) -> Iterator[Retained]:
    for item in session.pages("logs", "describe_log_groups", "logGroups"):
        name = item["logGroupName"]
        if item.get("kmsKeyId") and name not in going:
            yield Retained(name, f"the log group {name}", item["kmsKeyId"])


def _recovery_points(session: Session, going: frozenset[str]) -> Iterator[Retained]:
    for vault in session.pages("backup", "list_backup_vaults", "BackupVaultList"):
        name = vault["BackupVaultName"]
        if name in going or not vault.get("NumberOfRecoveryPoints"):
            continue
        operation = "list_recovery_points_by_backup_vault"
        for point in session.pages("backup", operation, "RecoveryPoints", BackupVaultName=name):
            if point.get("EncryptionKeyArn"):
                arn = point["RecoveryPointArn"]
                yield Retained(arn, f"the recovery point {arn}", point["EncryptionKeyArn"])


def _days(date: dt.datetime) -> int:
    return max(0, math.ceil((date - dt.datetime.now(dt.UTC)).total_seconds() / _DAY_S))
