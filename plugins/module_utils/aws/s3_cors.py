# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CORS rules of S3 buckets: schema, and conversion to and from the form of S3. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..engine.schema import Property

_METHODS = ("GET", "PUT", "POST", "DELETE", "HEAD")

CORS_RULES = Property(
    # S3 applies the first rule that matches.
    "list",
    purpose="CORS rules. The first matching rule applies; without rules, cross-origin requests are denied.",
    elements=Property(
        "map",
        fields={
            "allowed_origins": Property(
                "set", required=True, elements=Property(), purpose="Origins such as `https://page.example`, or `*`."
            ),
            "allowed_methods": Property(
                "set", required=True, elements=Property(choices=_METHODS), purpose="Permitted HTTP methods."
            ),
            "allowed_headers": Property(
                "set", elements=Property(), purpose="Permitted request headers in a preflight."
            ),
            "expose_headers": Property("set", elements=Property(), purpose="Response headers that pages may read."),
            "max_age_seconds": Property(
                "integer", purpose="Seconds for which browsers cache the result of a preflight."
            ),
        },
    ),
)
_NAMES = {
    "allowed_origins": "AllowedOrigins",
    "allowed_methods": "AllowedMethods",
    "allowed_headers": "AllowedHeaders",
    "expose_headers": "ExposeHeaders",
    "max_age_seconds": "MaxAgeSeconds",
}


def cors_to_api(rule: Mapping[str, Any]) -> dict[str, Any]:
    """Return a CORS rule in the form of PutBucketCors."""
    return {name: rule[field] for field, name in _NAMES.items() if rule.get(field) not in (None, [])}


def cors_from_api(rule: Mapping[str, Any]) -> dict[str, Any]:
    """Return a CORS rule as a description contains it: without its ID, which has no effect."""
    return {field: rule[name] for field, name in _NAMES.items() if rule.get(name) not in (None, [])}
