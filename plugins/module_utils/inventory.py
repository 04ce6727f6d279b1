# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory variables of the collection: what they are called, what they may hold, what is wrong with them.

Everything here is pure: :func:`check` takes values and returns normalised values and problems.
"""

from __future__ import annotations

import difflib
import ipaddress
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.problem import Problem

PREFIX = "lakehouse_"
TARGETS = ("host", "eks")
ENVIRONMENTS = ("development", "staging", "production")

# ansible.module_utils.parsing.convert_bool accepts the same words.
_TRUE = frozenset({"y", "yes", "on", "1", "true", "t"})
_FALSE = frozenset({"n", "no", "off", "0", "false", "f"})


class InvalidValueError(ValueError):
    """A value does not fit its variable; `remedy` says what does."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


@dataclass(frozen=True)
class Variable:
    """One inventory variable: its name, meaning, default and the function that normalises or refuses a value."""

    name: str
    purpose: str
    normalise: Callable[[Any], Any]
    default: Any = None
    required: bool = False
    secret: bool = False


def _shown(value: Any) -> str:
    """Return a value for a message, cut to a readable length."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _choice(*choices: str) -> Callable[[Any], str]:
    def normalise(value: Any) -> str:
        if isinstance(value, str) and value in choices:
            return value
        near = difflib.get_close_matches(str(value), choices, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise InvalidValueError(f"{_shown(value)} is not known{hint}", f"set it to one of: {', '.join(choices)}")

    return normalise


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    word = str(value).lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise InvalidValueError(f"{_shown(value)} is not a boolean", "set it to true or false")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidValueError(f"{_shown(value)} is not a string", "set it to a string")
    return value


def _integer(low: int, high: int) -> Callable[[Any], int]:
    def normalise(value: Any) -> int:
        number: int | None = None
        if isinstance(value, int) and not isinstance(value, bool):
            number = value
        elif isinstance(value, str) and value.strip().lstrip("-").isdigit():
            number = int(value)
        if number is None or not low <= number <= high:
            raise InvalidValueError(
                f"{_shown(value)} is not a whole number from {low} to {high}", f"set it from {low} to {high}"
            )
        return number

    return normalise


def _absolute_path(value: Any) -> str:
    text = _text(value)
    if text == "":
        return text
    path = PurePosixPath(text)
    if text.startswith("~"):
        return text
    if not path.is_absolute():
        raise InvalidValueError(f"{_shown(value)} is not an absolute path", "set it to a path that starts with / or ~")
    if ".." in path.parts:
        raise InvalidValueError(f"{_shown(value)} climbs with ..", "write the path without ..")
    if any(character in text for character in "\n\r\0"):
        raise InvalidValueError(f"{_shown(value)} holds a control character", "use a plain path")
    if len(path.parts) < 3:
        raise InvalidValueError(
            f"{_shown(value)} is a top-level folder of the machine", "name a folder of its own below it"
        )
    return str(path)


def _address(value: Any) -> str:
    try:
        return str(ipaddress.IPv4Address(_text(value)))
    except ipaddress.AddressValueError as error:
        raise InvalidValueError(
            f"{_shown(value)} is not an IPv4 address", "set it to an IPv4 address of the machine, e.g. 127.0.0.1"
        ) from error


def _user(value: Any) -> str:
    text = _text(value)
    plain = text.replace("-", "").replace("_", "")
    if (
        not text
        or not plain.isascii()
        or not plain.isalnum()
        or not text[0].isalpha()
        or len(text) > 32
        or text != text.lower()
    ):
        raise InvalidValueError(
            f"{_shown(value)} is not a system user name", "use lower case letters, digits, - and _, at most 32"
        )
    if text == "root":
        raise InvalidValueError("the services must not run as root", "name an unprivileged system user")
    return text


def _url(value: Any) -> str:
    text = _text(value)
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise InvalidValueError(
            f"{_shown(value)} is not an http(s) address", "set it to an address such as https://example.org"
        )
    if parts.username or parts.password:
        raise InvalidValueError("the address holds credentials", "leave user and password out of the address")
    return text.rstrip("/")


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise InvalidValueError(f"{_shown(value)} is not a mapping", "write it as `name: value` pairs")
    return dict(value)


def _texts(value: Any) -> dict[str, str]:
    for key, entry in _mapping(value).items():
        if not isinstance(entry, str):
            raise InvalidValueError(f"the value of {key!r} is not a string", f"quote the value of {key!r}")
    return dict(value)


def _secret_texts(value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise InvalidValueError("it is not a mapping", "write it as `secret name: value` pairs")
    for key, entry in value.items():
        if not isinstance(entry, str) or not entry or "\n" in entry or "\0" in entry:
            raise InvalidValueError(
                f"the value of {key!r} is not one line of text", f"give {key!r} a string of one line"
            )
    return dict(value)


def _words(value: Any) -> list[str]:
    """Return a list of texts; a single text is split at commas, since that is how extra vars give a list."""
    entries = [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value
    if not isinstance(entries, list) or not all(isinstance(entry, str) and entry for entry in entries):
        raise InvalidValueError(f"{_shown(value)} is not a list of texts", "write it as a list: [first, second]")
    return list(entries)


def _matching(pattern: str, what: str, example: str) -> Callable[[Any], str]:
    """Return a check for a text of one form; an empty one is as good as none."""
    form = re.compile(pattern)

    def normalise(value: Any) -> str:
        text = _text(value)
        if text and not form.fullmatch(text):
            raise InvalidValueError(f"{_shown(value)} is not {what}", f"write it as {example}")
        return text

    return normalise


def _each(check_one: Callable[[Any], str]) -> Callable[[Any], list[str]]:
    return lambda value: [check_one(entry) for entry in _words(value)]


def _account(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        # YAML read it as a number, which has lost its leading zeros.
        value = f"{value:012d}"
    return _matching(r"\d{12}", "the id of an AWS account", "12 digits in quotes, '111122223333'")(value)


def _cidr(value: Any) -> str:
    try:
        return str(ipaddress.IPv4Network(_text(value)))
    except ValueError as error:
        raise InvalidValueError(f"{_shown(value)} is not an IPv4 network", "write it as 203.0.113.0/24") from error


def _vpc_cidr(value: Any) -> str:
    network = ipaddress.IPv4Network(_cidr(value))
    if network.prefixlen != 16 or not network.is_private:
        raise InvalidValueError(f"{_shown(value)} is not a private /16 network", "choose one such as 10.0.0.0/16")
    return str(network)


def _plan(value: Any) -> Any:
    """Return a saved plan: its data, or the path or `s3://` address that it is read from."""
    if isinstance(value, Mapping):
        return dict(value)
    text = _text(value).strip()
    if text.startswith("{"):
        try:
            return json.loads(text)
        except ValueError as error:
            raise InvalidValueError("it is not JSON", "give the plan as plan.yml wrote it, or its path") from error
    return _place(text)


def _place(value: Any) -> str:
    text = _text(value)
    if text.startswith("s3:") and not re.fullmatch(r"s3://[^/\s]+/\S+", text):
        raise InvalidValueError(f"{_shown(value)} is not the address of an object", "write it as s3://BUCKET/KEY")
    return text


_ROLE = _matching(r"arn:[a-z-]+:iam::\d{12}:role/\S+", "the ARN of a role", "arn:aws:iam::111122223333:role/NAME")
_PRINCIPAL = _matching(
    r"arn:[a-z-]+:iam::\d{12}:(?:role|user)/\S+", "the ARN of a role or user", "arn:aws:iam::111122223333:role/NAME"
)

# What only the targets in the cloud read.
_CLOUD_VARIABLES: tuple[Variable, ...] = (
    Variable(
        "lakehouse_cluster_size", "Word for the size of the cluster.", _choice("small", "medium", "large"), "small"
    ),
    Variable("lakehouse_node_count", "Nodes of a cluster to begin with; the autoscaler owns it.", _integer(1, 10), 2),
    Variable("lakehouse_instance_types", "Instance types of the nodes.", _words, ["t3.medium"]),
    Variable("lakehouse_spot_nodes", "Add a group of tainted spot instances.", _boolean, False),
    Variable(
        "lakehouse_monitoring",
        "How much is watched: logs and dashboard, alarms as well, or everything.",
        _choice("basic", "enhanced", "comprehensive"),
        "basic",
    ),
    Variable("lakehouse_backup_retention_days", "Days that backups are kept.", _integer(1, 35), 7),
    Variable("lakehouse_high_availability", "No single zone that everything hangs on.", _boolean, False),
    Variable("lakehouse_auto_scaling", "Let the cluster autoscaler size the node groups.", _boolean, False),
    Variable(
        "lakehouse_aws_region",
        "Region; else that of the environment or the profile.",
        _matching(r"[a-z]{2,}(?:-[a-z]+)+-\d", "a region of AWS", "eu-central-1"),
        "",
    ),
    Variable("lakehouse_aws_profile", "Profile of the shared AWS configuration.", _text, ""),
    Variable(
        "lakehouse_aws_endpoint_url",
        "Address that answers for every AWS service, for an emulator.",
        lambda value: _url(value) if value else "",
        "",
    ),
    Variable(
        "lakehouse_kubeconfig",
        "File that leads to the Kubernetes API where the cluster's endpoint cannot be reached directly.",
        _text,
        "",
    ),
    Variable("lakehouse_aws_account_id", "The account that the credentials have to be of.", _account, ""),
    Variable("lakehouse_aws_assume_role_arn", "Role to assume before everything else.", _ROLE, ""),
    Variable("lakehouse_aws_vpc_cidr", "Network of the VPC, a private /16.", _vpc_cidr, "10.0.0.0/16"),
    Variable("lakehouse_aws_zones", "Availability zones to use.", _integer(2, 6), 3),
    Variable(
        "lakehouse_aws_interface_endpoints", "AWS services that are reached inside the VPC, e.g. ecr.api.", _words, []
    ),
    Variable("lakehouse_aws_ingress_cidrs", "Networks that may reach the ingress.", _each(_cidr), ["0.0.0.0/0"]),
    Variable(
        "lakehouse_aws_private_access_cidrs",
        "Networks outside of the VPC that may reach the private Kubernetes API.",
        _each(_cidr),
        [],
    ),
    Variable("lakehouse_aws_database", "Run PostgreSQL on RDS instead of in the cluster.", _boolean, False),
    Variable("lakehouse_aws_database_instance_class", "Instance class of that database.", _text, "db.t4g.medium"),
    Variable("lakehouse_aws_deletion_protection", "Let AWS refuse to delete cluster and database.", _boolean, False),
    Variable("lakehouse_aws_fargate", "Run pods labelled compute=fargate on Fargate.", _boolean, True),
    Variable("lakehouse_aws_alarm_emails", "Addresses that alarms and the budget write to.", _words, []),
    Variable("lakehouse_aws_budget_usd", "Monthly budget of the account in USD.", _integer(1, 10_000_000), 1000),
    Variable("lakehouse_aws_backup_vault_lock", "Let no backup be deleted before its time.", _boolean, False),
    Variable(
        "lakehouse_aws_adopt", "Take over what exists under the described names without an owner.", _boolean, False
    ),
    Variable(
        "lakehouse_aws_prune", "Delete what carries the stack's tags and is not described any more.", _boolean, False
    ),
    Variable(
        "lakehouse_aws_specification_names",
        "Use the specification's own names, to take over what was made from it.",
        _boolean,
        False,
    ),
    Variable(
        "lakehouse_aws_bucket_suffix",
        "What ends the names of the buckets instead of the account's id.",
        _matching(r"[a-z0-9][a-z0-9-]{0,24}", "the end of a bucket's name", "lower case letters, digits and -"),
        "",
    ),
    Variable(
        "lakehouse_eks_version",
        "Version of Kubernetes; an upgrade goes one minor version at a time.",
        _matching(r"1\.\d{2}", "a version of Kubernetes", "'1.35', in quotes"),
        "1.35",
    ),
    Variable(
        "lakehouse_eks_public_access_cidrs",
        "Networks that may reach the Kubernetes API over the internet; none makes it private.",
        _each(_cidr),
        [],
    ),
    Variable("lakehouse_eks_admin_arns", "Roles and users that administer the cluster.", _each(_PRINCIPAL), []),
    Variable("lakehouse_plan", "Saved plan to apply: its path, s3:// address or data.", _plan, ""),
    Variable("lakehouse_plan_path", "Where plan.yml writes the plan; else below the inventory.", _place, ""),
    Variable("lakehouse_plan_page_path", "Where plan.yml writes the page; else beside the plan.", _place, ""),
    Variable("lakehouse_destroy_unprotect", "Addresses and kinds to destroy although they hold data.", _words, []),
)

VARIABLES: tuple[Variable, ...] = (
    Variable("lakehouse_target", "Where the lakehouse runs.", _choice(*TARGETS), required=True),
    Variable(
        "lakehouse_environment",
        "Size, retention, monitoring level and high availability.",
        _choice(*ENVIRONMENTS),
        required=True,
    ),
    Variable(
        "lakehouse_home",
        "Folder that everything is kept in; empty picks the default of the user.",
        _absolute_path,
        default="",
    ),
    Variable(
        "lakehouse_service_user",
        "System user that runs the services when the machine is reached as root.",
        _user,
        default="lakehouse",
    ),
    Variable("lakehouse_bind_address", "IPv4 address that exposed ports listen on.", _address, default="127.0.0.1"),
    Variable("lakehouse_port_offset", "Number that is added to every port.", _integer(0, 46000), default=0),
    Variable(
        "lakehouse_services", "Services to add, and words of the platform's services to override.", _mapping, default={}
    ),
    Variable(
        "lakehouse_secrets",
        "Values of secrets, from Vault or any lookup; what is not given is generated.",
        _secret_texts,
        default={},
        secret=True,
    ),
    Variable("lakehouse_rotate_secrets", "Replace every generated secret by a new one.", _boolean, default=False),
    Variable(
        "lakehouse_ca_bundle",
        "File of certificate authorities on the machine that every client trusts.",
        _absolute_path,
        default="",
    ),
    Variable(
        "lakehouse_proxy_env", "Proxy variables of downloads and clients; NO_PROXY is computed.", _texts, default={}
    ),
    Variable(
        "lakehouse_package_index",
        "Index of Python packages to use instead of the machine's own.",
        lambda value: _url(value) if value else "",
        default="",
    ),
    Variable(
        "lakehouse_market_api_url",
        "Public market API whose reachability is reported.",
        _url,
        default="https://data-api.binance.vision",
    ),
    Variable(
        "lakehouse_market_archive_url",
        "Public archive that klines are read from.",
        _url,
        default="https://data.binance.vision",
    ),
    Variable(
        "lakehouse_min_free_disk_gib",
        "Free disk space that a first deployment asks for, in GiB.",
        _integer(0, 1_000_000),
        default=5,
    ),
    Variable(
        "lakehouse_min_memory_mib",
        "Available memory that a deployment asks for, in MiB.",
        _integer(0, 10_000_000),
        default=1536,
    ),
    Variable("lakehouse_destroy_confirm", "Name of the environment to destroy.", _text, default=""),
    Variable("lakehouse_destroy_data", "Remove data and secrets as well.", _boolean, default=False),
    *_CLOUD_VARIABLES,
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
