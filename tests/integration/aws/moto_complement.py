# SPDX-License-Identifier: GPL-3.0-or-later
"""Start moto with a field of RDS that it lacks: whether performance insights are enabled.

Without it, every run would change an instance that was created with performance insights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from moto.rds.models import DBInstance
from moto.server import main

_ASKED = "enable_performance_insights"


def remembering(create: Callable[..., None]) -> Callable[..., None]:
    """Return a function that creates instances and keeps the field; updates already keep all fields."""

    def created(self: DBInstance, *arguments: Any, **words: Any) -> None:
        create(self, *arguments, **words)
        setattr(self, _ASKED, words.get(_ASKED, False))

    return created


if __name__ == "__main__":
    setattr(DBInstance, "__init__", remembering(DBInstance.__init__))  # noqa: B010 - mypy knows of no other way
    told = property(lambda self: getattr(self, _ASKED))
    setattr(DBInstance, "performance_insights_enabled", told)  # noqa: B010 - the same
    main()
