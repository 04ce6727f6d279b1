# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Validate values of kube-prometheus-stack: no secrets, no ingress without authentication, no other names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from ..shared.problem import Problem

VARIABLE: Final = "monitoring_values"
# Prometheus and Alertmanager have no login on Kubernetes: the operator cannot configure one.
_WITHOUT_ACCOUNTS: Final = ("prometheus", "alertmanager", "thanosRuler")
_DOORS: Final = ("ingress", "ingressPerReplica", "thanosIngress", "thanosServiceExternal")
_SERVICES: Final = ("service", "servicePerReplica", "thanosService")
_OUTSIDE: Final = ("NodePort", "LoadBalancer")
_NAMES: Final = {"fullnameOverride": "monitoring", "grafana.fullnameOverride": "monitoring-grafana"}
# Keys of the chart, of Alertmanager and of Grafana whose values are secrets. Keys with the suffix _file, Key or Name
# contain references.
_SECRET_WORD: Final = re.compile(
    r"(?:password|passwd|token|credentials|secret|api_?key|api_url|routing_key|service_key|opsgenie_api_key|secret_?key|"
    r"access_?key|private_?key|client_?secret|webhook_?url)$",
    re.IGNORECASE,
)
_SECRET_VALUE: Final = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----|hooks\.slack\.com/services/")
# Keys that match the pattern, but contain the name or the location of a Secret.
_NAMING_WORDS: Final = frozenset({"existingsecret", "configsecret", "imagepullsecret", "topologykey"})
# Grafana and Helm replace these: $__file{...}, $__env{...}, {{ ... }}.
_REFERENCE: Final = re.compile(r"\s*(?:\$__\w+\{|\$\{|\{\{)")


def problems(values: Mapping[str, Any]) -> list[Problem]:
    """Return all problems of the values."""
    return [*_secrets(values), *_exposed(values), *_renamed(values)]


def _secrets(values: Mapping[str, Any]) -> Iterator[Problem]:
    for path, value in _leaves(values):
        word = path[-1] if isinstance(path[-1], str) else str(path[-2])
        named = _SECRET_WORD.search(word) and word.lower() not in _NAMING_WORDS and not _REFERENCE.match(value)
        if value and (named or _SECRET_VALUE.search(value)):
            yield Problem(
                VARIABLE,
                f"{_spelled(path)} is a secret, and Helm stores values on disk and in the cluster",
                "store it in a Secret of the namespace and refer to the Secret (admin.existingSecret, api_url_file)",
            )


def _leaves(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Yield every text of the values with its path."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves(item, (*path, str(key)))
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for index, item in enumerate(value):
            yield from _leaves(item, (*path, index))
    elif isinstance(value, str) and path:
        yield path, value


def _spelled(path: Sequence[str | int]) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def _exposed(values: Mapping[str, Any]) -> Iterator[Problem]:
    for part in _WITHOUT_ACCOUNTS:
        for path in _open_doors(_map(values, part)):
            yield Problem(
                VARIABLE,
                f"{part}.{path} would permit access without authentication, which {part} does not support",
                "remove it and use `kubectl port-forward`, or set up a proxy with authentication",
            )
    grafana = _map(values, "grafana", "grafana.ini")
    if _is_on(_map(grafana, "auth.anonymous").get("enabled")):
        yield Problem(
            VARIABLE,
            "grafana.grafana.ini.auth.anonymous.enabled would permit access without authentication",
            "remove it and create users",
        )


def _open_doors(part: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"{door}.enabled" for door in _DOORS if _is_on(_map(part, door).get("enabled")))
    routes = _map(part, "route")
    yield from (f"route.{name}.enabled" for name in routes if _is_on(_map(routes, name).get("enabled")))
    yield from (f"{name}.type" for name in _SERVICES if _map(part, name).get("type") in _OUTSIDE)
    yield from (f"{name}.externalIPs" for name in _SERVICES if _map(part, name).get("externalIPs"))
    yield from (
        f"{name}.hostNetwork" for name in part if name.endswith("Spec") and _is_on(_map(part, name).get("hostNetwork"))
    )


def _renamed(values: Mapping[str, Any]) -> Iterator[Problem]:
    for path, name in _NAMES.items():
        *parents, last = path.split(".")
        if _map(values, *parents).get(last) != name:
            yield Problem(
                VARIABLE, f"{path} has to be {name}: the platform finds its services by this name", "leave it as it is"
            )


def _map(values: Mapping[str, Any], *path: str) -> Mapping[str, Any]:
    """Return a map in the values, or an empty map."""
    found: Any = values
    for part in path:
        found = found.get(part) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _is_on(value: Any) -> bool:
    """Return whether Helm, or Grafana for texts, interprets a value as true."""
    return value is True or str(value).lower() in ("true", "1", "yes", "on")
