# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The connection options of modules that call AWS."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..engine.errors import EngineError
from .session import Connection

CONNECTION_SPEC: dict[str, dict[str, Any]] = {
    "region": {"type": "str", "aliases": ["aws_region"]},
    "profile": {"type": "str", "aliases": ["aws_profile"]},
    "access_key": {"type": "str", "aliases": ["aws_access_key_id", "aws_access_key"], "no_log": False},
    "secret_key": {"type": "str", "aliases": ["aws_secret_access_key", "aws_secret_key"], "no_log": True},
    "session_token": {"type": "str", "aliases": ["aws_session_token"], "no_log": True},
    "assume_role_arn": {"type": "str"},
    "external_id": {"type": "str"},
    "role_session_name": {"type": "str"},
    "endpoint_url": {"type": "str", "aliases": ["aws_endpoint_url"]},
    "validate_certs": {"type": "bool", "default": True},
    "aws_ca_bundle": {"type": "path"},
    "parallelism": {"type": "int", "default": 16},
}
_WORDS = tuple(name for name, option in CONNECTION_SPEC.items() if option["type"] in {"str", "path"})
CONNECTION_TOGETHER = [["access_key", "secret_key"]]


def _parallelism(value: int) -> int:
    if value < 1:
        raise EngineError(f"cannot use `parallelism`: {value} is less than 1; set it to 1 or more")
    return value


def connection(parameters: Mapping[str, Any]) -> Connection:
    """Return the connection that a module's parameters describe. Raises EngineError for a wrong one."""
    return replace(
        verified_connection(parameters),
        validate_certs=bool(parameters["validate_certs"]),
        parallelism=_parallelism(int(parameters["parallelism"])),
    )


def verified_connection(parameters: Mapping[str, Any]) -> Connection:
    """Return the connection of a module whose options, such as `validate_certs`, concern another service."""
    words: dict[str, Any] = {word: str(parameters.get(word) or "") for word in _WORDS}
    return Connection(ca_bundle=words.pop("aws_ca_bundle"), **words)
