# SPDX-License-Identifier: GPL-3.0-or-later
"""The check of linearizable reads accepts late writes without an answer, and no other value."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any

import pytest

from tests.k3s.traffic import Cluster

SERVERS = ["10.0.0.1", "10.0.0.2"]


class Scripted(Cluster):
    """A cluster that stores a number. lost: servers without answers to writes. late: a value that is applied then."""

    stored, lost, late = "0", frozenset[str](), ""

    def ask(self, server: str, method: str, path: str, body: Any = None) -> Any:
        if method == "PATCH":
            if server in self.lost:
                raise TimeoutError
            self.stored = body["data"]["number"]
            return body
        if self.late:
            self.stored, self.late = self.late, ""
        return {"data": {"number": self.stored}}


@pytest.fixture
def cluster() -> Scripted:
    return Scripted(ssl.create_default_context(), list(SERVERS))


def test_a_write_without_an_answer_may_be_applied_after_a_later_one(cluster: Scripted) -> None:
    cluster.lost = frozenset(SERVERS)
    assert not cluster.round(1)
    cluster.lost, cluster.late = frozenset(), "1"
    assert cluster.round(2)
    assert cluster.round(3)
    assert cluster.rounds == 2


def _answered(cluster: Scripted) -> None:
    cluster.round(1)


def _seen_already(cluster: Scripted) -> None:
    cluster.lost = frozenset(SERVERS)
    cluster.round(1)
    cluster.lost, cluster.late = frozenset(), "1"
    cluster.round(2)
    cluster.round(3)


@pytest.mark.parametrize("before", [_answered, _seen_already])
def test_a_value_that_was_replaced_is_not_linearizable(cluster: Scripted, before: Callable[[Scripted], None]) -> None:
    before(cluster)
    cluster.late = "1"
    with pytest.raises(SystemExit, match="returned 1 after 4 was written"):
        cluster.round(4)
