# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Derive from an answer of the server whether the object changed, and return the changes for readers. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..manifests.manifests import Identity
from ..manifests.mask import masked, masked_pair
from ..ready.verdict import seconds
from .applyset import entry_of
from .compare import changes, content, projected, same, views
from .results import ObjectResult, kept

# Times in managed fields are whole seconds. Within this interval, two applies may carry the same time.
_SAME_TIME_S = 5.0
_OBVIOUS = ("apiVersion", "kind")


def created(
    identity: Identity,
    after: Mapping[str, Any],
    desired: Mapping[str, Any],
    reason: str = "",
    *,
    with_status: bool = False,
) -> ObjectResult:
    """Return the result of a created object: the fields of the manifest, with the values that the server stored."""
    shown = masked(projected(content(after, with_status=with_status), desired))
    told = {key: value for key, value in shown.items() if key not in _OBVIOUS}
    return ObjectResult(identity, "create", kept(changes({}, told)), reason=reason, after=shown)


def compared(
    identity: Identity,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    desired: Mapping[str, Any],
    *,
    with_status: bool = False,
) -> ObjectResult:
    """Return the result of an existing object. Changed managed fields alone are not a change.

    with_status: for kinds whose status is written like any other field.
    """
    old, new = content(before, with_status=with_status), content(after, with_status=with_status)
    if same(old, new):
        return ObjectResult(identity, "none")
    # The values are masked first, so that each different value shows as a new value.
    left, right = views(*masked_pair(old, new), desired)
    return ObjectResult(identity, "update", kept(changes(left, right)), before=left, after=right)


def deleted(identity: Identity, before: Mapping[str, Any], reason: str = "") -> ObjectResult:
    return ObjectResult(identity, "delete", reason=reason, before=masked(content(before)))


def is_untouched(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Return whether the server stored nothing. Applies to real requests only: a dry run never stores anything."""
    one, other = before["metadata"], after["metadata"]
    return bool(one.get("resourceVersion")) and one.get("resourceVersion") == other.get("resourceVersion")


def is_work_of_others(before: Mapping[str, Any], after: Mapping[str, Any], manager: str, now_s: float) -> bool:
    """Return whether others wrote the differences between the read and the apply: a controller, an autoscaler.

    An apply that changes anything sets the time in the managed fields of `manager`. One that changes nothing keeps the
    former time. Source: k8s.io/apimachinery/pkg/util/managedfields, and the handlers of patches.
    """
    mine = entry_of(before, manager)
    if mine is None or mine != entry_of(after, manager):
        return False
    stamped_s = seconds(mine.get("time"))
    return stamped_s is not None and abs(now_s - stamped_s) > _SAME_TIME_S
