# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check the login to IAM Identity Center (SSO) of an AWS profile, without a call."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..module_utils.shared.problem import Problem

Profiles = Mapping[str, Mapping[str, str]]

_CACHE = Path(".aws", "sso", "cache")
_LONGEST_CHAIN = 10


def login_problems(profile: str, profiles: Profiles, home: Path, now: dt.datetime) -> list[Problem]:
    """Return a problem for each profile, up to the source of its credentials, with a missing or expired token."""
    return [
        Problem(
            "lakehouse_aws_profile",
            f"the SSO session of the profile {name!r} has no login, or its token has expired",
            f"run aws sso login --profile {name}",
        )
        for name in _chain(profile, profiles)
        if _needs_login(profiles[name], home, now)
    ]


def _chain(name: str, profiles: Profiles) -> Iterator[str]:
    """Yield a profile and the source profiles of its credentials."""
    seen: list[str] = []
    while name in profiles and name not in seen and len(seen) < _LONGEST_CHAIN:
        yield name
        seen.append(name)
        name = profiles[name].get("source_profile", "")


def _needs_login(profile: Mapping[str, str], home: Path, now: dt.datetime) -> bool:
    # botocore names the file of a token after the session, or after the address of a profile without one.
    source = profile.get("sso_session") or profile.get("sso_start_url")
    if not source:
        return False
    name = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
    try:
        token = json.loads((home / _CACHE / f"{name}.json").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValueError):
        return True
    if not isinstance(token, Mapping) or not token.get("accessToken"):
        return True
    return not (_is_later(token.get("expiresAt"), now) or _renews_itself(profile, token, now))


def _renews_itself(profile: Mapping[str, str], token: Mapping[str, Any], now: dt.datetime) -> bool:
    """Return whether botocore renews the token: for a session whose client is still registered."""
    known = all(token.get(word) for word in ("refreshToken", "clientId", "clientSecret"))
    return bool(profile.get("sso_session")) and known and _is_later(token.get("registrationExpiresAt"), now)


def _is_later(text: object, now: dt.datetime) -> bool:
    try:
        date = dt.datetime.fromisoformat(str(text).replace("UTC", "Z"))
    except ValueError:
        return False
    return (date if date.tzinfo else date.replace(tzinfo=dt.UTC)) > now
