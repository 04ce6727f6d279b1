# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory variables of the collection: what they are called, what they may hold, what is wrong with them.

Everything here is pure: :func:`check` takes values and returns normalised values and problems.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.inventory_backup import BACKUP_VARIABLES
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.inventory_cloud import CLOUD_VARIABLES
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.inventory_cluster import CLUSTER_VARIABLES
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.inventory_values import (
    InvalidValueError,
    Variable,
    absolute_path,
    as_mapping,
    as_text,
    as_texts,
    boolean,
    choice,
    foreign_groups,
    foreign_patterns,
    http_url,
    ipv4_address,
    secret_mapping,
    system_user,
    token_shares,
    whole_number,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.problem import Problem

PREFIX = "lakehouse_"
TARGETS = ("host", "k3s", "eks", "gke")
CLUSTER_TARGETS = ("k3s", "eks", "gke")
ENVIRONMENTS = ("development", "staging", "production")

VARIABLES: tuple[Variable, ...] = (
    Variable("lakehouse_target", "Where the lakehouse runs.", choice(*TARGETS), required=True),
    Variable(
        "lakehouse_environment",
        "Size, retention, monitoring level and high availability.",
        choice(*ENVIRONMENTS),
        required=True,
    ),
    Variable(
        "lakehouse_home",
        "Folder that everything is kept in; empty picks the default of the user.",
        absolute_path,
        default="",
    ),
    Variable(
        "lakehouse_service_user",
        "System user that runs the services when the machine is reached as root.",
        system_user,
        default="lakehouse",
    ),
    Variable("lakehouse_bind_address", "IPv4 address that exposed ports listen on.", ipv4_address, default="127.0.0.1"),
    Variable("lakehouse_port_offset", "Number that is added to every port.", whole_number(0, 46000), default=0),
    Variable(
        "lakehouse_services",
        "Services to add, and words of the platform's services to override.",
        as_mapping,
        default={},
    ),
    Variable(
        "lakehouse_secrets",
        "Values of secrets, from Vault or any lookup; what is not given is generated.",
        secret_mapping,
        default={},
        secret=True,
    ),
    Variable(
        "lakehouse_api_tokens",
        "Names of further tokens of the query API, each with its share of the query processes from 1 to 1000; "
        "`api_token` itself has 1.",
        token_shares,
        default={},
    ),
    Variable(
        "lakehouse_boot",
        "Whether systemd starts the platform at boot and restarts its supervisor (hosts on which it is PID 1).",
        boolean,
        default=True,
    ),
    Variable(
        "lakehouse_expected_foreign",
        "Patterns KIND/NAME of expected resources among those that drift lists as foreign; `*`, `?` and `[...]` match.",
        foreign_patterns,
        default=[],
    ),
    Variable(
        "lakehouse_remove_foreign",
        "Groups of foreign resources that grant access and are removed by a deployment: `policies`, `identities`, "
        "`roles`, `bindings`.",
        foreign_groups,
        default=[],
    ),
    Variable("lakehouse_rotate_secrets", "Replace every generated secret by a new one.", boolean, default=False),
    Variable(
        "lakehouse_ca_bundle",
        "File of certificate authorities on the machine that every client trusts.",
        absolute_path,
        default="",
    ),
    Variable(
        "lakehouse_proxy_env", "Proxy variables of downloads and clients; NO_PROXY is computed.", as_texts, default={}
    ),
    Variable(
        "lakehouse_package_index",
        "Index of Python packages to use instead of the machine's own.",
        lambda value: http_url(value) if value else "",
        default="",
    ),
    Variable(
        "lakehouse_market_api_url",
        "Public market API whose reachability is reported.",
        http_url,
        default="https://data-api.binance.vision",
    ),
    Variable(
        "lakehouse_market_archive_url",
        "Public archive that klines are read from.",
        http_url,
        default="https://data.binance.vision",
    ),
    Variable(
        "lakehouse_min_free_disk_gib",
        "Free disk space that a first deployment asks for, in GiB.",
        whole_number(0, 1_000_000),
        default=5,
    ),
    Variable(
        "lakehouse_min_memory_mib",
        "Available memory that a deployment asks for, in MiB.",
        whole_number(0, 10_000_000),
        default=1536,
    ),
    Variable("lakehouse_destroy_confirm", "Name of the environment to destroy.", as_text, default=""),
    Variable("lakehouse_destroy_data", "Remove data and secrets as well.", boolean, default=False),
    *BACKUP_VARIABLES,
    *CLUSTER_VARIABLES,
    *CLOUD_VARIABLES,
)

SECRET_NAMES = frozenset(variable.name for variable in VARIABLES if variable.secret)


def check(values: Mapping[str, Any], extra_names: Iterable[str] = ()) -> tuple[dict[str, Any], list[Problem]]:
    """Normalise the values of the inventory variables and list what is wrong with them.

    `values` maps variable names to values that are already templated; `extra_names` are further names that start with
    ``lakehouse_`` and are defined for the host. A name that no variable has is a problem, since a misspelt variable
    would otherwise be ignored in silence. The settings hold a default where a value is missing or wrong.
    """
    settings: dict[str, Any] = {}
    problems: list[Problem] = []
    for variable in VARIABLES:
        settings[variable.name] = variable.default
        value = values.get(variable.name)
        if value is None:
            if variable.required:
                problems.append(Problem(variable.name, "it is not set", f"set {variable.name}: {_example(variable)}"))
            continue
        try:
            settings[variable.name] = variable.normalise(value)
        except InvalidValueError as error:
            problems.append(Problem(variable.name, str(error), error.remedy))
    problems += [_unknown(name) for name in sorted({*values, *extra_names} - _names())]
    return settings, problems


def _names() -> set[str]:
    return {variable.name for variable in VARIABLES}


def _example(variable: Variable) -> str:
    return {"lakehouse_target": TARGETS[0], "lakehouse_environment": ENVIRONMENTS[0]}.get(variable.name, "VALUE")


def _unknown(name: str) -> Problem:
    near = difflib.get_close_matches(name, _names(), n=1)
    remedy = f"write {near[0]}" if near else "remove it; docs/variables.md lists the variables"
    return Problem(name, "no variable of the collection has this name", remedy)


def no_proxy(proxy_env: Mapping[str, str], own_addresses: Iterable[str]) -> dict[str, str]:
    """Return the proxy variables in both spellings, with a NO_PROXY that keeps the platform's own addresses direct."""
    if not proxy_env:
        return {}
    upper = {key.upper(): value for key, value in proxy_env.items()}
    given = [entry.strip() for entry in upper.get("NO_PROXY", "").split(",") if entry.strip()]
    direct = dict.fromkeys([*given, "localhost", "127.0.0.1", "::1", *own_addresses])
    upper["NO_PROXY"] = ",".join(direct)
    return {**upper, **{key.lower(): value for key, value in upper.items()}}
