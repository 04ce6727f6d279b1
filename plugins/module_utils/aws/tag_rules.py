# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tags that a description may contain, and tags of other owners. Pure."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

from ..shared.problem import Problem

# Tags that cluster controllers and AWS add to other resources: managed only where they are described.
FOREIGN_TAGS = ("aws:", "eks:", "kubernetes.io/", "k8s.io/", "elbv2.k8s.aws/", "ingress.k8s.aws/", "karpenter.sh/")
# Tags that CSI drivers use to find their volumes and snapshots.
_DRIVER_TAGS = ("csivolume", "ebs.csi.aws.com/", "efs.csi.aws.com/", "kubernetescluster")
_OWN_PREFIXES = {"aws:": "AWS", "lakehouse:": "the stack"}
# The stack writes these tags on all resources. IAM ignores the case of keys.
_COMMON_KEYS = frozenset({"environment", "name", "project"})
# Cluster controllers add up to 12 tags to volumes and load balancers.
_MOST_STACK_TAGS = 30
_KEY_LENGTH, _VALUE_LENGTH = 128, 256
# The limit of load balancers is one character lower.
_STACK_KEY_LENGTH, _STACK_VALUE_LENGTH = 127, 255
_SIGNS = frozenset("_.:/=+-@")


@dataclass(frozen=True)
class IgnoredTags:
    """Tags that other tools may add to any resource: not compared and not removed, except where described."""

    keys: frozenset[str] = frozenset()
    prefixes: tuple[str, ...] = ()

    def covers(self, key: str) -> bool:
        """Return whether a key matches."""
        return key in self.keys or key.startswith(self.prefixes)


def tags_fault(tags: Mapping[str, str]) -> Problem | None:
    """Return the first problem of the tags of a resource, or None. The request limits their number.

    Source: "Tag naming limits and requirements" of AWS.
    """
    for key, text in tags.items():
        whose = next((owner for prefix, owner in _OWN_PREFIXES.items() if key.lower().startswith(prefix)), None)
        if whose:
            return _problem(f"{key!r} is a tag that {whose} itself writes", "remove it")
        if not key:
            return _problem("a key is empty", "name the tag")
        if len(key) > _KEY_LENGTH or len(str(text)) > _VALUE_LENGTH:
            limits = f"a key has up to {_KEY_LENGTH} characters, a value {_VALUE_LENGTH}"
            return _problem(f"{key!r} is too long: {limits}", "shorten it")
    return None


def stack_tags_fault(tags: Mapping[str, str]) -> Problem | None:
    """Return the first problem of the tags of all resources of a stack, or None.

    Every taggable AWS resource gets them, also from cluster controllers, which take them as `KEY=VALUE,...`. Therefore
    the strictest rules of all services apply.
    """
    fault = tags_fault(tags)
    if fault is not None:
        return fault
    if len(tags) > _MOST_STACK_TAGS:
        return _problem(f"{len(tags)} tags are more than {_MOST_STACK_TAGS}", f"remove {len(tags) - _MOST_STACK_TAGS}")
    return next(filter(None, (_stack_tag_fault(key, value) for key, value in tags.items())), None)


def _stack_tag_fault(key: str, value: str) -> Problem | None:
    lowered = key.lower()
    if lowered in _COMMON_KEYS:
        return _problem(f"{key!r} is a tag that the stack itself writes", "remove it")
    if lowered.startswith((*FOREIGN_TAGS, *_DRIVER_TAGS)):
        return _problem(f"{key!r} is a tag that a controller of the cluster writes", "remove it")
    if len(key) > _STACK_KEY_LENGTH or len(value) > _STACK_VALUE_LENGTH:
        limits = f"a key has up to {_STACK_KEY_LENGTH} characters, a value {_STACK_VALUE_LENGTH}"
        return _problem(f"{key!r} is too long: load balancers set the limit, {limits}", "shorten it")
    if "=" in key:
        return _problem(f"{key!r} contains `=`", "choose a key without it")
    wrong = sorted({sign for sign in key + value if not _is_allowed(sign)})
    if wrong or (key + value) != (key.strip() + value.strip()):
        found = ", ".join(map(repr, wrong)) or "a space at an end"
        return _problem(
            f"{key!r} contains {found}", f"use letters, digits, spaces inside and any of {' '.join(sorted(_SIGNS))}"
        )
    return None


def _problem(message: str, remedy: str) -> Problem:
    return Problem("tags", message, remedy)


def _is_allowed(sign: str) -> bool:
    return sign in _SIGNS or sign == " " or unicodedata.category(sign)[0] in "LN"
