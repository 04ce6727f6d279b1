# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which service waits for which: the order of starts, and cycles that have none."""

from __future__ import annotations

import graphlib
from collections.abc import Iterable, Iterator

from .service import Service


def providers(service: Service) -> tuple[str, ...]:
    """Return the services that have to work before `service` can."""
    return service.depends_on + ((service.provided_by,) if service.provided_by else ())


def cycles(services: Iterable[Service]) -> Iterator[list[str]]:
    """Yield each ring of services that wait for each other; one dependency of it is cut to find the next."""
    graph = {service.name: set(providers(service)) for service in services}
    while True:
        try:
            graphlib.TopologicalSorter(graph).prepare()
        except graphlib.CycleError as error:
            # The sorter names each one before the one that waits for it, and the first again at the end.
            ring = error.args[1][:0:-1]
            start = ring.index(min(ring))
            ring = ring[start:] + ring[:start]
            graph[ring[0]].discard(ring[1 % len(ring)])
            yield ring
        else:
            return


def start_order(services: Iterable[Service]) -> dict[str, int]:
    """Return how many steps come before the start of each service: 0 for one that waits for nothing.

    A dependency that closes a cycle is left out; cycles are reported elsewhere.
    """
    by_name = {service.name: service for service in services}
    order: dict[str, int] = {}

    def step(name: str, waiting: frozenset[str]) -> int:
        if name not in order:
            before = [other for other in providers(by_name[name]) if other in by_name and other not in waiting]
            order[name] = 1 + max((step(other, waiting | {other}) for other in before), default=-1)
        return order[name]

    for name in sorted(by_name):
        step(name, frozenset({name}))
    return order
