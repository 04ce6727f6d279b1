# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The preflight of the secrets in the inventory: all problems of all values, before the first change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..module_utils.catalogue.service import Secret
from ..module_utils.secrets.options import specs_in
from ..module_utils.secrets.rules import ValueProblem, value_problems
from ..module_utils.shared.problem import Problem

Descriptions = Mapping[str, Mapping[str, Any]]


def secret_problems(rendered: Mapping[str, Any], values: Mapping[str, Any], known: Descriptions) -> list[Problem]:
    """Return all problems of the secrets in the inventory.

    known: the descriptions of the platform's own secrets. If the services cannot be rendered, only these are checked,
    without names that may belong to services of the inventory.
    """
    if rendered:
        return judged(value_problems(specs_in(rendered), values, allow_empty=False))
    named = [secret for secret in described_secrets(known) if secret.name in values]
    return judged(value_problems(named, values, allow_empty=False, allow_unknown=True))


def judged(problems: Iterable[ValueProblem]) -> list[Problem]:
    """Return the problems of values as problems of the variable that contains them."""
    return [Problem("lakehouse_secrets", problem.message, problem.remedy) for problem in problems]


def described_secrets(known: Descriptions, services: Mapping[str, Any] | None = None) -> list[Secret]:
    """Return the platform's own secrets, and those that only services of the inventory reference."""
    words = [service for service in (services or {}).values() if isinstance(service, Mapping)]
    named = {name for service in words for name in service.get("secrets") or () if isinstance(name, str)}
    return [
        *(Secret(name=name, **description) for name, description in known.items()),
        *(Secret(name=name, kind="given", optional=True) for name in sorted(named - set(known))),
    ]
