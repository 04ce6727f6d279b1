# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Foreign resources: resources of a lakehouse that its description does not contain, in three classes.

Each target has a table of its kinds and reads the existing resources. For all targets, this module decides which
findings fail drift and which of them a run removes on request, and how they are listed. Pure.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

GRANTS, BEHAVIOUR, ADDED = "grants_access", "changes_behaviour", "added_by_users"
CLASSES = (GRANTS, BEHAVIOUR, ADDED)
"""Drift fails for the first two. The first is only removed on request, a deployment repairs the second, and the third
is listed and never removed."""

REMOVABLE = ("policies", "identities", "roles", "bindings")
"""Values of the option `lakehouse_remove_foreign`."""

BY_HAND = "by hand"
"""The group of access that no run removes, since it may be its owner's only access to the machine."""

# The options of all modules that compare access with a description.
FOREIGN_SPEC: dict[str, dict[str, Any]] = {
    "expected": {"type": "list", "elements": "str", "default": []},
    "remove": {"type": "list", "elements": "str", "choices": list(REMOVABLE), "default": []},
}

EXPECTED_OPTION, REMOVE_OPTION = "lakehouse_expected_foreign", "lakehouse_remove_foreign"


@dataclass(frozen=True)
class Kind:
    """A kind of foreign resources: `name` without `/`, its class and, if it grants access, its group.

    The group is one of REMOVABLE, or BY_HAND.

    Raises `ValueError` for an unknown class or group, and for a group that does not belong to the class.
    """

    name: str
    foreign_class: str
    group: str = ""

    def __post_init__(self) -> None:
        if self.foreign_class not in CLASSES or not self.name or "/" in self.name:
            raise ValueError(f"cannot use the kind {self.name!r} of class {self.foreign_class!r}")
        groups = (*REMOVABLE, BY_HAND) if self.foreign_class == GRANTS else ("",)
        if self.group not in groups:
            raise ValueError(f"cannot remove the kind {self.name!r} as {self.group!r}")

    def finding(self, name: str, detail: str = "") -> Finding:
        """Return one resource of this kind. `detail` states the granted access or the change, without secrets."""
        return Finding(self.name, printable(name), printable(detail), self.foreign_class, self.group)


@dataclass(frozen=True, order=True)
class Finding:
    """A foreign resource. `name` is unique in its kind and begins with its parents: `lakehouse/evil`."""

    kind: str
    name: str
    detail: str = ""
    foreign_class: str = ADDED
    group: str = ""

    @property
    def address(self) -> str:
        """`KIND/NAME`, for comparison with patterns."""
        return f"{self.kind}/{self.name}"

    def __str__(self) -> str:
        return f"{self.address}: {self.detail}" if self.detail else self.address

    def as_dict(self) -> dict[str, str]:
        """Return the fields as JSON types, with the address."""
        return {**asdict(self), "address": self.address}

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Finding:
        """Return the finding of an `as_dict`."""
        return cls(*(str(given[name]) for name in ("kind", "name", "detail", "foreign_class", "group")))


@dataclass(frozen=True)
class Report:
    """All findings, sorted, by class. `removing` is the part of `grants` that this run removes."""

    grants: tuple[Finding, ...] = ()
    behaviour: tuple[Finding, ...] = ()
    added: tuple[Finding, ...] = ()
    expected: tuple[Finding, ...] = ()
    removing: tuple[Finding, ...] = ()

    @property
    def drift(self) -> tuple[Finding, ...]:
        """Return the findings that fail drift."""
        return (*self.grants, *self.behaviour)

    @property
    def remaining(self) -> tuple[Finding, ...]:
        """Return the findings that grant access and remain after this run."""
        return tuple(finding for finding in self.grants if finding not in self.removing)

    def as_dict(self) -> dict[str, list[dict[str, str]]]:
        """Return the lists as JSON types, by their names."""
        return {name: [finding.as_dict() for finding in getattr(self, name)] for name in self.__dataclass_fields__}


def judge(findings: Iterable[Finding], expected: Collection[str] = (), remove: Collection[str] = ()) -> Report:
    """Return the report of all findings.

    expected: patterns of `lakehouse_expected_foreign`. Matching resources are neither drift nor removed.
    remove: values of `lakehouse_remove_foreign`.
    """
    every = sorted(set(findings))
    excused = tuple(finding for finding in every if is_expected(finding, expected))
    rest = [finding for finding in every if finding not in excused]
    by_class = {name: tuple(each for each in rest if each.foreign_class == name) for name in CLASSES}
    removing = tuple(each for each in by_class[GRANTS] if each.group in remove)
    return Report(by_class[GRANTS], by_class[BEHAVIOUR], by_class[ADDED], excused, removing)


def is_expected(finding: Finding, patterns: Iterable[str]) -> bool:
    """Return whether a pattern matches the address; `*`, `?` and `[...]` match as in a shell, `*` across `/` too."""
    return any(fnmatch.fnmatchcase(finding.address, pattern) for pattern in patterns)


def pattern_problem(pattern: str) -> str:
    """Return the fault of a pattern of `lakehouse_expected_foreign`, empty when it is valid."""
    kind, separator, name = pattern.partition("/")
    if not separator or not kind or not name:
        return f"{pattern!r} is not of the form KIND/NAME"
    if not kind.strip("*?"):
        return f"{pattern!r} does not name a kind"
    return ""


def listing(findings: Iterable[Finding]) -> list[str]:
    """Return one line for each finding, for drift, plan and health. Findings that grant access include their remedy."""
    return [_line(finding) for finding in sorted(findings)]


def _line(finding: Finding) -> str:
    if finding.foreign_class != GRANTS:
        return str(finding)
    return f"{finding} [{'remove it manually' if finding.group == BY_HAND else f'{REMOVE_OPTION}: {finding.group}'}]"


def removal(report: Report) -> dict[str, Any]:
    """Return the result fields of an applied or planned removal: `changed`, `removed` and `diff`."""
    removed = [finding.address for finding in report.removing]
    return {"changed": bool(removed), "removed": removed, "diff": removal_diff(report)}


def removal_diff(report: Report) -> dict[str, str]:
    """Return a run's removals in the form of Ansible's diff; empty without removals."""
    if not report.removing:
        return {}
    before = "".join(f"{finding}\n" for finding in report.removing)
    return {"before_header": "foreign", "after_header": "foreign", "before": before, "after": ""}


def printable(text: str) -> str:
    """Return a text on one line: foreign names may contain line breaks and terminal codes."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)
