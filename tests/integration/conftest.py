# SPDX-License-Identifier: GPL-3.0-or-later
"""What every test on real servers needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tools.claims import ports


@pytest.fixture(scope="session")
def free_port() -> Iterator[Callable[[], int]]:
    """Ports of the loopback address that no other process takes, each given once."""
    with ports() as find:
        yield find
