# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kinds of foreign resources on a host: in the services, as the job `bootstrap` reports them, and of their user."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .foreign import ADDED, BEHAVIOUR, BY_HAND, GRANTS, Finding, Kind

PENDING_RESTART = "database-restart"
LOADED_RULES = "prometheus-rules"

KINDS = {
    kind.name: kind
    for kind in (
        Kind("bucket-policy", GRANTS, "policies"),
        Kind("bucket-acl", GRANTS, "policies"),
        Kind("bucket-cors", GRANTS, "policies"),
        Kind("table-bucket-policy", GRANTS, "policies"),
        Kind("table-policy", GRANTS, "policies"),
        Kind("s3-identity", GRANTS, "identities"),
        Kind("s3-service-account", GRANTS, "identities"),
        Kind("s3-group", GRANTS, "identities"),
        Kind("role", GRANTS, "roles"),
        Kind("role-membership", GRANTS, "bindings"),
        Kind("database-privilege", GRANTS, "bindings"),
        *(Kind(name, GRANTS, BY_HAND) for name in ("ssh-key", "cron-job", "at-job", "user-unit", "login-file")),
        Kind(PENDING_RESTART, BEHAVIOUR),
        Kind(LOADED_RULES, BEHAVIOUR),
        Kind("bucket", ADDED),
        Kind("table-bucket", ADDED),
        Kind("s3-identity-without-access", ADDED),
        Kind("role-without-login", ADDED),
        Kind("database", ADDED),
        Kind("deployment", ADDED),
        Kind("block", ADDED),
        Kind("work-pool", ADDED),
        Kind("work-queue", ADDED),
        Kind("concurrency-limit", ADDED),
        Kind("automation", ADDED),
        Kind("variable", ADDED),
    )
}

RESTARTS = {PENDING_RESTART: "database", LOADED_RULES: "prometheus"}
"""By kind, the service whose restart repairs the changed behaviour."""


def classified(reported: Iterable[Mapping[str, Any]]) -> list[tuple[Mapping[str, Any], Finding]]:
    """Return each report (`kind`, `name`, `detail`) with its finding. Raises `ValueError` for an unknown kind."""
    found = []
    for each in reported:
        kind = KINDS.get(str(each["kind"]))
        if kind is None:
            raise ValueError(f"unknown kind of foreign resources: {each['kind']!r}")
        found.append((each, kind.finding(str(each["name"]), str(each.get("detail", "")))))
    return found


def foreign_rules(answer: object, described: Iterable[str]) -> list[dict[str, str]]:
    """Return reports of rule files that Prometheus has loaded but are not described, and the reverse.

    answer: of `/api/v1/rules`. described: paths of the rule files.
    """
    data = answer.get("data") if isinstance(answer, Mapping) else None
    groups = data.get("groups") if isinstance(data, Mapping) else None
    if not isinstance(groups, list):
        return []
    loaded = {str(group.get("file", "?")) for group in groups if isinstance(group, Mapping)}
    wanted = set(described)
    told = [(path, "is loaded and not described") for path in sorted(loaded - wanted)]
    told += [(path, "is not loaded") for path in sorted(wanted - loaded)]
    return [{"kind": LOADED_RULES, "name": path.lstrip("/"), "detail": detail} for path, detail in told]
