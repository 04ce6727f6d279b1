# SPDX-License-Identifier: GPL-3.0-or-later
"""Versions of K3s: format, total order, upgrade paths, waypoints and skew."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.versions import (
    WAYPOINTS,
    Version,
    open_waypoints,
    parse,
    skew_problems,
    upgrade_path,
    version_problems,
)

ORDERED = [
    "v1.32.11+k3s3",
    "v1.33.0-rc1+k3s1",
    "v1.33.0-rc2+k3s1",
    "v1.33.0+k3s1",
    "v1.33.0-rc1+k3s2",
    "v1.33.0+k3s2",
    "v1.33.7+k3s3",
    "v1.33.13-rc1+k3s1",
    "v1.34.1+k3s1",
    "v2.0.0+k3s1",
]
NOT_VERSIONS = [
    "",
    "stable",
    "v1.34",
    "1.34.3+k3s1",
    "v1.34.3",
    "v1.34.3+k3s",
    "v1.34.3-k3s1",
    "v1.32.3+k3s-4d137d94",
    "v01.34.3+k3s1",
    "v1.34.3+k3s1 ",
    "v1.34.3+rke2r1",
    "v1.34.3-beta1+k3s1",
]
versions = st.builds(
    Version,
    st.just(1),
    st.integers(30, 37),
    st.integers(0, 14),
    st.integers(1, 4),
    st.sampled_from([1, 2, parse("v1.0.0+k3s1").candidate]),
)
nearby = st.sampled_from([parse(text) for text in ORDERED[:-1]] + [parse("v1.33.7+k3s1"), parse("v1.35.2+k3s1")])


@pytest.mark.parametrize("text", NOT_VERSIONS)
def test_other_formats_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected vX"):
        parse(text)
    assert [problem.variable for problem in version_problems(text)] == ["k3s_version"]


@pytest.mark.parametrize("text", ORDERED)
def test_a_version_survives_its_text(text: str) -> None:
    assert str(parse(text)) == text
    assert version_problems(text) == []


def test_revisions_count_before_release_candidates() -> None:
    assert sorted(map(parse, reversed(ORDERED))) == list(map(parse, ORDERED))


@given(versions, versions, versions)
def test_the_order_is_total(one: Version, two: Version, three: Version) -> None:
    assert (one < two) + (one == two) + (one > two) == 1
    assert (one == two) == (str(one) == str(two))
    assert not one < two < three or one < three


def path(installed: dict[str, str], target: str, via: tuple[str, ...] = ()) -> tuple[list[str], list[str]]:
    found = upgrade_path({host: parse(text) for host, text in installed.items()}, parse(target), map(parse, via))
    return [str(release) for release in found.releases], [problem.message for problem in found.problems]


PATHS: dict[str, tuple[dict[str, str], str, tuple[str, ...], list[str]]] = {
    "nothing installed": ({}, "v1.34.3+k3s1", (), ["v1.34.3+k3s1"]),
    "already there": ({"s1": "v1.34.3+k3s1"}, "v1.34.3+k3s1", (), []),
    "a patch": ({"s1": "v1.34.1+k3s1"}, "v1.34.3+k3s1", ("v1.34.2+k3s1",), ["v1.34.3+k3s1"]),
    "a minor": ({"s1": "v1.34.3+k3s1"}, "v1.35.0+k3s3", (), ["v1.35.0+k3s3"]),
    "the waypoint comes first": ({"s1": "v1.33.5+k3s1"}, "v1.34.3+k3s1", (), ["v1.33.7+k3s3", "v1.34.3+k3s1"]),
    "the waypoint holds within its line": (
        {"s1": "v1.33.7+k3s1"},
        "v1.33.13+k3s1",
        (),
        ["v1.33.7+k3s3", "v1.33.13+k3s1"],
    ),
    "the waypoint bridges a minor": ({"s1": "v1.32.9+k3s1"}, "v1.34.3+k3s1", (), ["v1.33.7+k3s3", "v1.34.3+k3s1"]),
    "the waypoint of a line comes before later releases of that line": (
        {"s1": "v1.32.9+k3s1"},
        "v1.32.13+k3s1",
        (),
        ["v1.32.11+k3s3", "v1.32.13+k3s1"],
    ),
    "a release before the waypoint of its line needs none": (
        {"s1": "v1.32.9+k3s1"},
        "v1.33.5+k3s1",
        (),
        ["v1.33.5+k3s1"],
    ),
    "a release in between needs the waypoint of its own line": (
        {"s1": "v1.31.9+k3s1"},
        "v1.33.13+k3s1",
        ("v1.32.13+k3s1",),
        ["v1.32.11+k3s3", "v1.32.13+k3s1", "v1.33.7+k3s3", "v1.33.13+k3s1"],
    ),
    "the waypoint is passed": ({"s1": "v1.33.7+k3s3"}, "v1.34.3+k3s1", (), ["v1.34.3+k3s1"]),
    "three minors": (
        {"s1": "v1.33.7+k3s3"},
        "v1.36.1+k3s1",
        ("v1.34.3+k3s1", "v1.34.8+k3s1", "v1.35.5+k3s1"),
        ["v1.34.8+k3s1", "v1.35.5+k3s1", "v1.36.1+k3s1"],
    ),
    "an upgrade that did not end": (
        {"s1": "v1.34.3+k3s1", "s2": "v1.33.7+k3s3", "s3": "v1.33.7+k3s3"},
        "v1.34.3+k3s1",
        (),
        ["v1.34.3+k3s1"],
    ),
}


@pytest.mark.parametrize("case", PATHS)
def test_paths(case: str) -> None:
    installed, target, via, expected = PATHS[case]
    assert path(installed, target, via) == (expected, [])


REFUSED: dict[str, tuple[dict[str, str], str, str]] = {
    "a downgrade of one host": (
        {"s1": "v1.34.3+k3s1", "s2": "v1.35.0+k3s1"},
        "v1.34.8+k3s1",
        "cannot downgrade s2: it runs v1.35.0+k3s1, newer than v1.34.8+k3s1",
    ),
    "a skipped minor": (
        {"s1": "v1.34.3+k3s1"},
        "v1.36.1+k3s1",
        "cannot upgrade from v1.34.3+k3s1 to v1.36.1+k3s1: it skips a minor",
    ),
    "another major": ({"s1": "v1.36.1+k3s1"}, "v2.0.0+k3s1", "it skips a minor"),
    "hosts too far apart": (
        {"s1": "v1.33.7+k3s3", "s2": "v1.35.0+k3s1"},
        "v1.35.0+k3s1",
        "hosts run v1.33.7+k3s3 and v1.35.0+k3s1, more than one minor apart",
    ),
    "a waypoint that some hosts passed": (
        {"s1": "v1.34.1+k3s1", "s2": "v1.33.5+k3s1"},
        "v1.34.3+k3s1",
        "cannot continue the upgrade: s1 passed v1.33.7+k3s3 before the others",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_paths(case: str) -> None:
    installed, target, message = REFUSED[case]
    releases, messages = path(installed, target)
    assert releases == []
    assert any(message in found for found in messages), messages


@given(st.dictionaries(st.sampled_from("abc"), nearby, min_size=1), nearby, st.lists(nearby, max_size=4))
def test_a_path_skips_no_minor_and_no_waypoint(
    installed: dict[str, Version], target: Version, via: list[Version]
) -> None:
    found = upgrade_path(installed, target, via)
    assert bool(found.problems) or (found.releases or (max(installed.values()),))[-1] == target
    for start in installed.values():
        steps = [start, *(release for release in found.releases if release > start)]
        assert all(before < after and after.minor - before.minor <= 1 for before, after in pairwise(steps))
        for waypoint in WAYPOINTS:
            for before, after in pairwise(steps):
                mandatory = waypoint.before(after)
                assert mandatory is None or before >= mandatory
    assert not (found.releases and any(version > target for version in installed.values()))


def test_every_waypoint_names_its_source() -> None:
    assert all(waypoint.source and waypoint.reason for waypoint in WAYPOINTS)
    assert all(list(waypoint.releases) == sorted(waypoint.releases) for waypoint in WAYPOINTS)


@pytest.mark.parametrize(
    ("running", "satisfied"),
    [
        ([], False),
        (["3.5.26", "3.5.26"], True),
        (["3.6.4", "v3.5.26-k3s1"], True),
        (["3.5.25", "3.5.26"], False),
        (["3.5.26", ""], False),
        (["unknown"], False),
    ],
)
def test_running_etcd_servers_satisfy_a_waypoint(running: list[str], satisfied: bool) -> None:
    assert (open_waypoints(running) == []) is satisfied


SKEWS: dict[str, tuple[list[str], list[str], list[str]]] = {
    "equal": (["v1.34.3+k3s1"] * 3, ["v1.34.3+k3s1"], []),
    "servers during an upgrade": (["v1.34.3+k3s1", "v1.33.7+k3s3"], ["v1.33.7+k3s3"], []),
    "servers too far apart": (["v1.35.0+k3s1", "v1.33.7+k3s3"], [], ["servers run v1.33.7+k3s3 and v1.35.0+k3s1"]),
    "agent newer than the oldest server": (
        ["v1.35.0+k3s1", "v1.34.3+k3s1"],
        ["v1.35.0+k3s1"],
        ["agent a0 runs v1.35.0+k3s1, a newer minor than a server at v1.34.3+k3s1"],
    ),
    "agent three minors older": (["v1.36.1+k3s1"], ["v1.33.7+k3s3"], []),
    "agent four minors older": (["v1.36.1+k3s1"], ["v1.32.9+k3s1"], ["agent a0 runs v1.32.9+k3s1, more than 3 minors"]),
    "no server": ([], ["v1.32.9+k3s1"], []),
}


@pytest.mark.parametrize("case", SKEWS)
def test_skew(case: str) -> None:
    servers, agents, expected = SKEWS[case]
    problems = skew_problems(
        {f"s{number}": parse(text) for number, text in enumerate(servers)},
        {f"a{number}": parse(text) for number, text in enumerate(agents)},
    )
    assert len(problems) == len(expected)
    assert all(text in problem.message for text, problem in zip(expected, problems, strict=True))
