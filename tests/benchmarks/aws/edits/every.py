# SPDX-License-Identifier: GPL-3.0-or-later
"""All manual edits of attributes that a description manages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.registry import kind_class
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.schema import Property
from tests.benchmarks.aws.edits import cluster, data, identities, networks
from tests.benchmarks.aws.edits.hand import Edit, Hand
from tests.benchmarks.aws.edits.tags import of_tags

_EDITS: Mapping[str, Callable[[Hand, str], Iterator[Edit]]] = {
    "vpc": networks.of_vpc,
    "subnet": networks.of_subnet,
    "internet_gateway": networks.of_internet_gateway,
    "route_table": networks.of_route_table,
    "vpc_endpoint": networks.of_vpc_endpoint,
    "security_group": networks.of_security_group,
    "kms_key": identities.of_kms_key,
    "iam_role": identities.of_iam_role,
    "iam_policy": identities.of_iam_policy,
    "secretsmanager_secret": identities.of_secretsmanager_secret,
    "s3_bucket": data.of_s3_bucket,
    "glue_database": data.of_glue_database,
    "glue_crawler": data.of_glue_crawler,
    "log_group": data.of_log_group,
    "eks_cluster": cluster.of_eks_cluster,
    "eks_nodegroup": cluster.of_eks_nodegroup,
}
# Properties that are not attributes of an existing resource, or that cannot be changed, with the reason.
UNCHANGEABLE: Mapping[tuple[str, str], str] = {
    ("kms_key", "deletion_window_in_days"): "is a word of the deletion",
    ("secretsmanager_secret", "recovery_window_in_days"): "is a word of the deletion",
    ("secretsmanager_secret", "generate"): "makes a value where none is given",
    ("iam_policy", "description"): "IAM never changes it",
    ("vpc_endpoint", "subnet_ids"): "an endpoint of the type Gateway has none",
    ("glue_crawler", "targets.catalog_targets"): "a crawler of folders has none",
    ("glue_crawler", "targets.iceberg_targets"): "a crawler of folders has none",
}


def every_edit(
    described: Sequence[Mapping[str, Any]],
    outputs: Mapping[str, Mapping[str, Any]],
    client: Callable[[str], Any],
) -> list[Edit]:
    """Return at least one edit for every attribute that the description manages.

    Raises LookupError for an attribute without one: future attributes of a kind are not missed.
    """
    by_address = {f"{item['kind']}.{item['name']}": item for item in described}
    hand = Hand({address: item["properties"] for address, item in by_address.items()}, outputs, client)
    edits = [edit for address, item in by_address.items() for edit in _of(hand, address, item["kind"])]
    attributes = {(address, path): item["kind"] for address, item in by_address.items() for path in managed(item)}
    covered = {(edit.address, path) for edit in edits for path in _lengths(edit.path)}
    missing = [
        f"{address} {path}"
        for (address, path), kind in attributes.items()
        if (address, path) not in covered and (kind, path) not in UNCHANGEABLE
    ]
    if missing:
        raise LookupError(f"nothing edits {', '.join(missing)}")
    return edits


def _of(hand: Hand, address: str, kind: str) -> Iterator[Edit]:
    if kind in _EDITS:
        yield from _EDITS[kind](hand, address)
    yield from of_tags(hand, address)


def managed(resource: Mapping[str, Any]) -> list[str]:
    """Return the path of every managed property that can be updated in place."""
    return list(_paths(kind_class(resource["kind"]).schema.properties, resource["properties"], ""))


def _paths(properties: Mapping[str, Property], given: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for name, item in properties.items():
        value = given.get(name)
        if item.owned_by or item.replace or (item.computed and name not in given):
            continue
        if item.type == "map" and item.fields and isinstance(value, Mapping):
            yield from _paths(item.fields, value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def _lengths(path: str) -> Iterator[str]:
    """Yield a path and all of its parents."""
    parts = path.split(".")
    return (".".join(parts[:length]) for length in range(1, len(parts) + 1))
