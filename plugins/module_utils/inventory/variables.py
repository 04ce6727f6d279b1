# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory variables of the collection, with their descriptions, defaults and checks.

This module is pure: :func:`check` takes values and returns normalised values and problems.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from ..shared.nearest import closest
from ..shared.problem import Problem
from ..shared.targets import TARGETS
from .backup import BACKUP_VARIABLES
from .cloud import CLOUD_VARIABLES
from .cluster import CLUSTER_VARIABLES
from .values import (
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

PREFIX = "lakehouse_"
ENVIRONMENTS = ("development", "staging", "production")

*_FIRST, _LAST = (f"`{name}`" for name in TARGETS)
_NAMES = f"{', '.join(_FIRST)} or {_LAST}"

VARIABLES: tuple[Variable, ...] = (
    Variable(
        "lakehouse_target",
        f"Target that the lakehouse is deployed to: {_NAMES}.",
        choice(*TARGETS),
        required=True,
    ),
    Variable(
        "lakehouse_environment",
        "Environment, which sets size, retention, monitoring level and availability: `development`, `staging` or "
        "`production`.",
        choice(*ENVIRONMENTS),
        required=True,
    ),
    Variable(
        "lakehouse_home",
        "Folder of the lakehouse on the machine. The default of the user when empty.",
        absolute_path,
        default="",
    ),
    Variable(
        "lakehouse_service_user",
        "System user that runs the services when the connection is as root.",
        system_user,
        default="lakehouse",
    ),
    Variable(
        "lakehouse_bind_address", "IPv4 address on which exposed ports listen.", ipv4_address, default="127.0.0.1"
    ),
    Variable("lakehouse_port_offset", "Offset that is added to every port.", whole_number(0, 46000), default=0),
    Variable(
        "lakehouse_services",
        "Services to add, and keys of the platform's services to override.",
        as_mapping,
        default={},
    ),
    Variable(
        "lakehouse_secrets",
        "Values of secrets, from Vault or any lookup. Other secrets are generated.",
        secret_mapping,
        default={},
        secret=True,
    ),
    Variable(
        "lakehouse_api_tokens",
        "Names of additional tokens of the query API, with their share of the query processes from 1 to 1000. "
        "`api_token` has a share of 1.",
        token_shares,
        default={},
    ),
    Variable(
        "lakehouse_boot",
        "Whether to let systemd start the platform at boot and restart its supervisor (hosts on which it is PID 1).",
        boolean,
        default=True,
    ),
    Variable(
        "lakehouse_expected_foreign",
        "Patterns KIND/NAME of foreign resources that drift does not report; `*`, `?` and `[...]` are wildcards.",
        foreign_patterns,
        default=[],
    ),
    Variable(
        "lakehouse_remove_foreign",
        "Groups of foreign resources with access that a deployment removes: `policies`, `identities`, `roles`, "
        "`bindings`.",
        foreign_groups,
        default=[],
        of_run=True,
    ),
    Variable(
        "lakehouse_rotate_secrets", "Whether to replace every generated secret.", boolean, default=False, of_run=True
    ),
    Variable(
        "lakehouse_ca_bundle",
        "File of certificate authorities that every client trusts, on the machine.",
        absolute_path,
        default="",
    ),
    Variable(
        "lakehouse_proxy_env",
        "Proxy variables of downloads and clients, such as `https_proxy`. NO_PROXY is computed.",
        as_texts,
        default={},
    ),
    Variable(
        "lakehouse_package_index",
        "Index of Python packages. The configured index of the machine when empty.",
        lambda value: http_url(value) if value else "",
        default="",
    ),
    Variable(
        "lakehouse_market_api_url",
        "Address of the public market API, whose reachability health reports.",
        http_url,
        default="https://data-api.binance.vision",
    ),
    Variable(
        "lakehouse_market_archive_url",
        "Address of the public archive of klines.",
        http_url,
        default="https://data.binance.vision",
    ),
    Variable(
        "lakehouse_min_free_disk_gib",
        "Free disk space that a first deployment requires, in GiB.",
        whole_number(0, 1_000_000),
        default=5,
    ),
    Variable(
        "lakehouse_min_memory_mib",
        "Available memory that a deployment requires, in MiB.",
        whole_number(0, 10_000_000),
        default=1536,
    ),
    Variable(
        "lakehouse_destroy_confirm",
        "Name of the environment, which confirms its destruction.",
        as_text,
        default="",
        of_run=True,
    ),
    Variable(
        "lakehouse_destroy_data",
        "Whether destroy.yml deletes data and secrets as well.",
        boolean,
        default=False,
        of_run=True,
    ),
    *BACKUP_VARIABLES,
    *CLUSTER_VARIABLES,
    *CLOUD_VARIABLES,
)

SECRET_NAMES = frozenset(variable.name for variable in VARIABLES if variable.secret)


def check(values: Mapping[str, Any], extra_names: Iterable[str] = ()) -> tuple[dict[str, Any], list[Problem]]:
    """Return the normalised values of the inventory variables, and their problems.

    `values` maps variable names to templated values; `extra_names` are further names with the prefix ``lakehouse_``
    that are defined for the host. An unknown name is a problem, to catch typos. The settings contain the default where
    a value is missing or invalid.
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


def described(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that describe a lakehouse, where they are not the default.

    Neither secrets nor variables that concern one run are among them.
    """
    return {
        variable.name: settings[variable.name]
        for variable in VARIABLES
        if not variable.secret and not variable.of_run and settings[variable.name] != variable.default
    }


def document(settings: Mapping[str, Any]) -> str:
    """Return the variables that describe a lakehouse as JSON, which `ansible-playbook -e @FILE` reads.

    It holds no marker of a secret, whatever the values hold.
    """
    return json.dumps(described(settings), indent=2, sort_keys=True).replace("$", "\\u0024") + "\n"


def _names() -> set[str]:
    return {variable.name for variable in VARIABLES}


def _example(variable: Variable) -> str:
    return {"lakehouse_target": next(iter(TARGETS)), "lakehouse_environment": ENVIRONMENTS[0]}.get(
        variable.name, "VALUE"
    )


def _unknown(name: str) -> Problem:
    near = closest(name, _names())
    remedy = f"write {near}" if near else "remove it; docs/variables.md lists the variables"
    return Problem(name, "no variable of the collection has this name", remedy)


def no_proxy(proxy_env: Mapping[str, str], own_addresses: Iterable[str]) -> dict[str, str]:
    """Return the proxy variables in both spellings, with a NO_PROXY that contains the platform's own addresses."""
    if not proxy_env:
        return {}
    upper = {key.upper(): value for key, value in proxy_env.items()}
    given = [entry.strip() for entry in upper.get("NO_PROXY", "").split(",") if entry.strip()]
    direct = dict.fromkeys([*given, "localhost", "127.0.0.1", "::1", *own_addresses])
    upper["NO_PROXY"] = ",".join(direct)
    return {**upper, **{key.lower(): value for key, value in upper.items()}}
