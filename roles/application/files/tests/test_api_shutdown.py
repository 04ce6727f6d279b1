# SPDX-License-Identifier: GPL-3.0-or-later
"""Shutdown of the API in order: running queries are answered, and no process stays behind."""

from __future__ import annotations

import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest
import services

# About a second of work: queries that wait without working are refused.
SLOW = "SELECT count(*) FROM range(10000) a, range(10000) b WHERE (a.range * b.range) % 7 = 1"


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_no_query_process_outlives_the_api(
    api_environment: dict[str, str], candles: services.Candles, tmp_path: Path, end: signal.Signals
) -> None:
    (port,) = services.free_ports(1)
    environment = {**api_environment, "LAKEHOUSE_API_PORT": str(port), "LAKEHOUSE_QUERY_TIMEOUT_S": "60"}
    command = [sys.executable, "-m", "crypto_lakehouse.cli", "api"]
    with services.running(command, tmp_path / "api.log", env=environment) as process:
        url = f"http://{services.HOST}:{port}"
        services.wait_until(lambda: httpx.get(f"{url}/live", trust_env=False).status_code == 200, "the API")
        api = psutil.Process(process.pid)
        services.wait_until(lambda: len(api.children(recursive=True)) == 2, "the forkserver and a generation")
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(
                httpx.post,
                f"{url}/v1/query",
                json={"sql": SLOW},
                headers=services.AUTHORIZED,
                trust_env=False,
                timeout=300,
            )
            # The forkserver, its generation, and the process of the query.
            services.wait_until(lambda: len(api.children(recursive=True)) == 3, "the query's process")
            children = api.children(recursive=True)
            process.send_signal(end)
            if end == signal.SIGTERM:
                assert running.result().status_code == 200
            else:
                with pytest.raises(httpx.HTTPError):
                    running.result()
        process.wait(timeout=100)
        assert children
        _gone, alive = psutil.wait_procs(children, timeout=60)
        assert alive == []
