# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Versions of K3s: order, upgrade paths by one minor at a time, mandatory releases, and skew between nodes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ..shared.problem import Problem

VARIABLE = "k3s_version"
# A kubelet may be three minors older than its API server, and never newer:
# https://kubernetes.io/releases/version-skew-policy/
AGENT_SKEW_MINORS = 3
_PATTERN = re.compile(r"v(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:-rc([1-9]\d*))?\+k3s([1-9]\d*)", re.ASCII)
_ETCD = re.compile(r"v?(\d+)\.(\d+)\.(\d+)", re.ASCII)
_FINAL = 1_000_000


@dataclass(frozen=True, order=True)
class Version:
    """A release of K3s. The fields are in the order of comparison; `candidate` of a final release is above every rc.

    The revision counts before the candidate: `v1.20.13-rc1+k3s2` was built after `v1.20.13+k3s1`. This differs from
    semantic versioning, which ignores the revision.
    """

    major: int
    minor: int
    patch: int
    revision: int
    candidate: int = _FINAL

    def __str__(self) -> str:
        candidate = "" if self.candidate == _FINAL else f"-rc{self.candidate}"
        return f"v{self.major}.{self.minor}.{self.patch}{candidate}+k3s{self.revision}"

    @property
    def line(self) -> str:
        """The release line, such as `v1.33`."""
        return f"v{self.major}.{self.minor}"


def parse(text: str) -> Version:
    """Return the version of `vX.Y.Z[-rcN]+k3sN`; raise `ValueError` for anything else."""
    match = _PATTERN.fullmatch(text)
    if not match:
        raise ValueError(f"cannot read version {text!r}: expected vX.Y.Z[-rcN]+k3sN, such as v1.34.3+k3s1")
    major, minor, patch, candidate, revision = match.groups()
    return Version(int(major), int(minor), int(patch), int(revision), int(candidate) if candidate else _FINAL)


def version_problems(text: str) -> list[Problem]:
    """Return the problem of a version that is not pinned in K3s' format."""
    try:
        parse(text)
    except ValueError as error:
        return [Problem(VARIABLE, str(error), "pin a release, not a channel such as `stable`")]
    return []


@dataclass(frozen=True)
class Waypoint:
    """A state of etcd that every server must reach before a later release.

    etcd: the version that satisfies it. releases: the first release of each line that carries it, oldest first. Any
    later release of such a line, and of a later line, may carry the next minor of etcd.
    """

    etcd: tuple[int, int, int]
    releases: tuple[Version, ...]
    reason: str
    source: str

    def before(self, target: Version) -> Version | None:
        """Return the release that must run before the target; None where the target needs none."""
        if (target.major, target.minor) > (self.releases[-1].major, self.releases[-1].minor):
            return self.releases[-1]
        return next((release for release in self.releases if release.line == target.line and release < target), None)


# etcd calls 3.5.26 the only safe origin for 3.6; an earlier announcement had named 3.5.24. By the release notes of K3s,
# v1.33.6+k3s1 carries 3.5.21, v1.32.11+k3s1 and v1.33.7+k3s1 carry 3.5.25, and the releases below carry 3.5.26.
# v1.34.1+k3s1 carries 3.6.4, and v1.33.13 carries 3.6.12 (k3s#14183).
WAYPOINTS: tuple[Waypoint, ...] = (
    Waypoint(
        (3, 5, 26),
        (parse("v1.32.11+k3s3"), parse("v1.33.7+k3s3")),
        "members older than etcd 3.5.26 that upgrade to 3.6 cannot join or bring back removed members",
        "K3s release notes v1.32.X and v1.33.X (upgrade warning), k3s#13271, k3s#13485, k3s#13493, k3s#13494, "
        "https://etcd.io/blog/2025/zombie_members_upgrade/",
    ),
)


def parse_etcd(text: str) -> tuple[int, int, int] | None:
    """Return the version of an etcd server, such as `3.5.26` or `v3.5.26-k3s1`; None for another format."""
    match = _ETCD.match(text)
    return (int(match[1]), int(match[2]), int(match[3])) if match else None


def open_waypoints(etcd: Iterable[str], waypoints: Sequence[Waypoint] = WAYPOINTS) -> list[Waypoint]:
    """Return the waypoints that the running etcd servers do not satisfy; all where one version is not known."""
    running = [parse_etcd(text) for text in etcd]
    known = [version for version in running if version]
    if not known or len(known) < len(running):
        return list(waypoints)
    return [waypoint for waypoint in waypoints if min(known) < waypoint.etcd]


@dataclass(frozen=True)
class Path:
    """Releases that the whole cluster runs in turn, the last one being the target, or the problems that refuse it."""

    releases: tuple[Version, ...] = ()
    problems: tuple[Problem, ...] = ()


def upgrade_path(
    installed: Mapping[str, Version],
    target: Version,
    via: Iterable[Version] = (),
    waypoints: Sequence[Waypoint] = WAYPOINTS,
) -> Path:
    """Return the releases from the installed versions, by host, to the target.

    via: releases that the inventory offers for minors in between. A waypoint is part of the path by itself. Hosts at
    several releases are an upgrade that did not end: the path begins after the oldest. Refused: a downgrade of any
    host, a minor without a release, hosts more than one minor apart.
    """
    if not installed:
        return Path((target,))
    problems = downgrade_problems(installed, target)
    oldest, newest = min(installed.values()), max(installed.values())
    stops = _stops(oldest, target, via, waypoints)
    problems += _missed_waypoints(installed, stops, waypoints)
    problems += _gap_problems(oldest, newest, stops)
    return Path(problems=tuple(problems)) if problems else Path(tuple(stops))


def _stops(oldest: Version, target: Version, via: Iterable[Version], waypoints: Sequence[Waypoint]) -> list[Version]:
    between = sorted({version for version in [*via, target] if oldest < version <= target})
    latest = {version.line: version for version in between}
    stops = [version for version in between if version == target or _is_needed(version, latest, oldest, target)]
    mandatory = {release for stop in stops for release in _before(stop, waypoints) if release > oldest}
    return sorted({*stops, *mandatory})


def _before(target: Version, waypoints: Sequence[Waypoint]) -> list[Version]:
    return [release for waypoint in waypoints if (release := waypoint.before(target))]


def _is_needed(version: Version, latest: Mapping[str, Version], oldest: Version, target: Version) -> bool:
    inner = version.line not in (oldest.line, target.line)
    return inner and latest[version.line] == version


def downgrade_problems(installed: Mapping[str, Version], target: Version) -> list[Problem]:
    """Return one problem for every host whose installed version is newer than the target."""
    remedy = "set a release that is not older, or restore a snapshot of the older release with `k3s_restore`"
    return [
        Problem(VARIABLE, f"cannot downgrade {host}: it runs {version}, newer than {target}", remedy)
        for host, version in sorted(installed.items())
        if version > target
    ]


def _gap_problems(oldest: Version, newest: Version, stops: Sequence[Version]) -> list[Problem]:
    problems = []
    for before, after in pairwise((oldest, *stops)):
        if not _adjacent(before, after):
            message = f"cannot upgrade from {before} to {after}: it skips a minor"
            remedy = f"add a release of {before.major}.{before.minor + 1} to `k3s_upgrade_via`, or set it first"
            problems.append(Problem(VARIABLE, message, remedy))
    if newest.major != oldest.major or newest.minor - oldest.minor > 1:
        message = f"cannot upgrade: hosts run {oldest} and {newest}, more than one minor apart"
        problems.append(
            Problem(VARIABLE, message, f"upgrade the hosts at {oldest} to {oldest.line} of the others first")
        )
    return problems


def _adjacent(before: Version, after: Version) -> bool:
    return before.major == after.major and after.minor - before.minor <= 1


def _missed_waypoints(
    installed: Mapping[str, Version], stops: Sequence[Version], waypoints: Sequence[Waypoint]
) -> list[Problem]:
    """Refuse a mixed cluster where some hosts are beyond a release that others have yet to run."""
    problems = []
    for waypoint in waypoints:
        missed = [release for release in waypoint.releases if release in stops]
        beyond = sorted(host for host, version in installed.items() if missed and version > missed[-1])
        if beyond:
            message = f"cannot continue the upgrade: {', '.join(beyond)} passed {missed[-1]} before the others"
            remedy = f"restore the snapshot of before the upgrade and go through {missed[-1]}: {waypoint.reason}"
            problems.append(Problem(VARIABLE, message, remedy))
    return problems


def skew_problems(servers: Mapping[str, Version], agents: Mapping[str, Version]) -> list[Problem]:
    """Return the hosts whose versions may not run together.

    Servers are at most one minor apart. An agent is not newer than any server, and at most three minors older.
    """
    if not servers:
        return []
    oldest, newest = min(servers.values()), max(servers.values())
    problems = []
    if not _adjacent(oldest, newest):
        message = f"servers run {oldest} and {newest}, more than one minor apart"
        problems.append(Problem(VARIABLE, message, "upgrade the older servers first"))
    for host, version in sorted(agents.items()):
        if (version.major, version.minor) > (oldest.major, oldest.minor):
            message = f"agent {host} runs {version}, a newer minor than a server at {oldest}"
            problems.append(Problem(VARIABLE, message, "upgrade the servers before the agents"))
        elif newest.minor - version.minor > AGENT_SKEW_MINORS:
            message = f"agent {host} runs {version}, more than {AGENT_SKEW_MINORS} minors older than {newest}"
            problems.append(Problem(VARIABLE, message, f"upgrade {host} first"))
    return problems
