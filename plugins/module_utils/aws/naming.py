# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of names that AWS would reject during a run. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable


def name_check(pattern: str, said: str) -> Callable[[str], str | None]:
    """Return the check of a name. pattern: of the whole name. said: description of the pattern."""
    compiled = re.compile(pattern)

    def fault(value: str) -> str | None:
        return None if compiled.fullmatch(value) else f"{value!r} is not {said}"

    return fault


def segment_fault(value: str) -> str | None:
    """Return why a text cannot be a segment of an address or an ARN. Clients resolve `.` and `..` before a request."""
    if any(segment in {".", ".."} for segment in value.split("/")):
        return f"{value!r} has `.` or `..` as a part of a path"
    return f"{value!r} contains a control character" if re.search(r"[\x00-\x1f\x7f]", value) else None


def path_fault(value: str) -> str | None:
    """Return the problem of the path of an IAM resource, or None. Source: IAM's API reference, `Path`."""
    if not (value.startswith("/") and value.endswith("/")):
        return f"{value!r} does not begin and end with `/`"
    parts = value[1:-1].split("/") if value != "/" else []
    if not re.fullmatch(r"/(?:[!-~]+/)?", value) or len(value) > 512 or "" in parts or "%" in value:
        return f"{value!r} is not `/` or folders like `/team/service/`, at most 512 characters without `%`"
    return segment_fault(value)


# Source: the patterns of each name in the API reference of its service.
role_name_fault = name_check(r"[\w+=,.@-]{1,64}", "1 to 64 letters, digits and any of +=,.@_-")
iam_name_fault = name_check(r"[\w+=,.@-]{1,128}", "1 to 128 letters, digits and any of +=,.@_-")
log_group_name_fault = name_check(r"[.\-_/#A-Za-z0-9]{1,512}", "1 to 512 letters, digits and any of ./#_-")
dashboard_name_fault = name_check(r"[A-Za-z0-9_-]{1,255}", "1 to 255 letters, digits, - and _")
alarm_name_fault = name_check(r"[^\x00-\x1f\x7f]{1,255}", "1 to 255 characters")
template_name_fault = name_check(r"[a-zA-Z0-9().\-/_]{3,128}", "3 to 128 letters, digits and any of ()./_-")
key_pair_name_fault = name_check(r"[\x20-\x7e]{1,255}", "1 to 255 characters of ASCII")
nodegroup_name_fault = name_check(
    r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}", "1 to 63 letters, digits, - and _, a letter or digit first"
)
secret_name_fault = name_check(r"[A-Za-z0-9/_+=.@-]{1,512}", "1 to 512 letters, digits and any of /_+=.@-")
cluster_name_fault = name_check(
    r"[0-9A-Za-z][0-9A-Za-z_-]{0,99}",
    "a name of a cluster: up to 100 letters, digits, - and _, a letter or digit first",
)
addon_name_fault = name_check(
    r"[0-9A-Za-z][0-9A-Za-z._-]{0,99}",
    "a name of an addon: up to 100 letters, digits and any of ._-, a letter or digit first",
)
policy_arn_fault = name_check(
    r"arn:[^:/\s]+:iam::(?:\d{12}|aws):policy/[!-~]+",
    "the ARN of a policy: arn:PARTITION:iam::ACCOUNT:policy/NAME",
)
arn_fault = name_check(
    r"arn:[^:/\s]+:[^:/\s]+:[^:/\s]*:[^:/\s]*:[!-~]+", "an ARN: arn:PARTITION:SERVICE:REGION:ACCOUNT:NAME"
)
namespace_fault = name_check(
    r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?", "a namespace: at most 63 lowercase letters, digits and inner hyphens"
)
account_name_fault = name_check(
    r"[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?", "a service account: lowercase letters, digits and inner hyphens and dots"
)
web_acl_name_fault = name_check(r"[A-Za-z0-9_-]{1,128}", "1 to 128 letters, digits, - and _")
crawler_name_fault = name_check(r"[^\x00-\x1f\x7f]{1,255}", "1 to 255 characters")
repository_name_fault = name_check(
    r"(?=.{2,256}$)([a-z0-9]+([._-][a-z0-9]+)*/)*[a-z0-9]+([._-][a-z0-9]+)*",
    "2 to 256 small letters and digits, with single ._-/ between them",
)
