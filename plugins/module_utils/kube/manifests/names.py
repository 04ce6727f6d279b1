# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Validate names of objects, with the API server's rules by kind. Pure.

Each rule is the loosest of all supported versions: the server rejects the remaining names itself.

Source: k8s.io/apimachinery/pkg/util/validation, k8s.io/kubernetes/pkg/apis/*/validation.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..client.errors import ConfigError
from ..client.paths import segment_fault

_LABEL = r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(?:\.{_LABEL})*"


@dataclass(frozen=True)
class Rule:
    """Rule for a name. pattern: full match; empty for any path segment. remedy: description of valid names."""

    noun: str
    pattern: str
    longest: int
    remedy: str

    def fault(self, name: str) -> str:
        """Return the problem of a name, or nothing."""
        if self.pattern and (len(name) > self.longest or not re.fullmatch(self.pattern, name)):
            return f"is not a {self.noun}"
        return segment_fault(name)


SUBDOMAIN = Rule(
    "DNS-1123 subdomain",
    _SUBDOMAIN,
    253,
    "use at most 253 lowercase letters, digits, `-` and `.`, with a letter or digit at both ends of each part",
)
LABEL = Rule(
    "DNS-1123 label",
    _LABEL,
    63,
    "use at most 63 lowercase letters, digits and `-`, with a letter or digit at both ends",
)
SEGMENT = Rule("path segment", "", 0, "use a name that is not `.` or `..` and has no `/`, `%` or control character")
# Helm uses the release name in other names, which are labels.
RELEASE = Rule("Helm release name", SUBDOMAIN.pattern, 53, SUBDOMAIN.remedy.replace("253", "53"))
_VERSION = Rule("DNS-1035 label", r"[a-z](?:[-a-z0-9]*[a-z0-9])?", 63, "write `v1` or `apps/v1`")
_KIND = Rule("kind", r"[A-Za-z](?:[-A-Za-z0-9]*[A-Za-z0-9])?", 63, "use at most 63 letters and digits")
# Groups of Kubernetes itself; other API servers may have other rules for names.
_BUILT_IN = frozenset({"", "apps", "autoscaling", "batch", "policy"})
_BUILT_IN_DOMAIN = ".k8s.io"
_LABELS = frozenset({("", "Namespace"), ("", "Service")})
# Kinds whose names may be any path segment, or have another form: an IP address, `GROUP:signer:NAME`.
_SEGMENTS = frozenset(
    {
        ("", "ComponentStatus"),
        ("", "Event"),
        ("apiregistration.k8s.io", "APIService"),
        ("certificates.k8s.io", "ClusterTrustBundle"),
        ("events.k8s.io", "Event"),
        ("internal.apiserver.k8s.io", "StorageVersion"),
        ("networking.k8s.io", "IPAddress"),
        ("rbac.authorization.k8s.io", "ClusterRole"),
        ("rbac.authorization.k8s.io", "ClusterRoleBinding"),
        ("rbac.authorization.k8s.io", "Role"),
        ("rbac.authorization.k8s.io", "RoleBinding"),
        ("storage.k8s.io", "CSIDriver"),
    }
)


def rule_of(group: str, kind: str) -> Rule:
    """Return the rule for the names of a kind. Kinds of other groups than Kubernetes' use the rule of path segments."""
    if (group, kind) in _LABELS:
        return LABEL
    if (group, kind) in _SEGMENTS:
        return SEGMENT
    return SUBDOMAIN if group in _BUILT_IN or group.endswith(_BUILT_IN_DOMAIN) else SEGMENT


def api_faults(api_version: str, kind: str) -> Iterator[tuple[str, str]]:
    """Yield (problem, remedy) for an apiVersion and a kind."""
    group, slash, version = api_version.rpartition("/")
    fault = (SUBDOMAIN.fault(group) if slash else "") or _VERSION.fault(version)
    if fault:
        yield f"apiVersion {api_version!r} {fault}", _VERSION.remedy
    fault = _KIND.fault(kind)
    if fault:
        yield f"kind {kind!r} {fault}", _KIND.remedy


def metadata_faults(api_version: str, kind: str, metadata: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (problem, remedy) for the name and the namespace in an object's metadata."""
    name, namespace = metadata.get("name"), metadata.get("namespace")
    rule = rule_of(api_version.rpartition("/")[0], kind)
    if isinstance(name, str) and name and rule.fault(name):
        yield f"metadata.name {name!r} {rule.fault(name)}", rule.remedy
    if isinstance(namespace, str) and namespace and LABEL.fault(namespace):
        yield f"metadata.namespace {namespace!r} {LABEL.fault(namespace)}", LABEL.remedy


def check_names(options: Mapping[str, tuple[str, Rule]]) -> None:
    """Raise ConfigError with every option whose value violates its rule. Empty values are skipped."""
    faults = [
        f"cannot use `{option}`: {value!r} {rule.fault(value)}; {rule.remedy}"
        for option, (value, rule) in options.items()
        if value and rule.fault(value)
    ]
    if faults:
        raise ConfigError("\n".join(faults))
