# SPDX-License-Identifier: GPL-3.0-or-later
"""The command `lakehouse api`."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from typing import Any, Final

import uvicorn

from crypto_lakehouse.api.application import create_api
from crypto_lakehouse.settings import Settings

GRACE_S: Final = 10
LOGGING: Final[dict[str, Any]] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
    "handlers": {"output": {"class": "logging.StreamHandler", "formatter": "line", "stream": "ext://sys.stdout"}},
    "root": {"handlers": ["output"], "level": "INFO"},
    # The check's own line contains everything; the client library's line for each request adds nothing.
    "loggers": {"httpx": {"level": "WARNING"}},
}


def main(argv: Sequence[str]) -> int:
    """Serve the API until the process receives a signal."""
    argparse.ArgumentParser(prog="lakehouse api", description="Serve the HTTP API.").parse_args(argv)
    settings = Settings.from_environment()
    api = create_api(settings)
    server = uvicorn.Server(
        uvicorn.Config(
            api.app,
            host=settings.api_host,
            port=settings.api_port,
            log_config=LOGGING,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=True,
            http="h11",
            ws="none",
            loop="asyncio",
            lifespan="on",
            timeout_graceful_shutdown=GRACE_S,
        )
    )
    api.metrics.count_connections(lambda: len(server.server_state.connections))
    server.run()
    logging.shutdown()
    return 0 if server.started else 1
