# SPDX-License-Identifier: GPL-3.0-or-later
"""The command `lakehouse worker`: Prefect's worker, whose health check serves its one path and nothing else.

Prefect's own health check publishes interactive documentation beside it, a page that loads scripts from another host.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable, Sequence


def main(argv: Sequence[str]) -> int:
    """Run `prefect worker` with these arguments; returns the exit status."""
    from fastapi import FastAPI
    from prefect.workers import server

    plain = functools.partial(FastAPI, docs_url=None, redoc_url=None, openapi_url=None)
    setattr(server, "FastAPI", plain)  # noqa: B010 - the name is no part of the module's interface
    # Prefect's command takes its arguments from nowhere else.
    sys.argv = ["prefect", "worker", *argv]
    command: Callable[[], object] = importlib.import_module("prefect.cli").app
    command()
    return 0
