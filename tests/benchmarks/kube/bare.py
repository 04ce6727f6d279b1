# SPDX-License-Identifier: GPL-3.0-or-later
"""The lower limit: only the requests of server-side apply, concurrently, on pooled connections.

    python -m tests.benchmarks.kube.bare GIVEN

It reads from a JSON file the server, the files of its authority and of the user's certificate, and the requests, each
`[path, body]`. It prints the seconds from the first request to the last answer, and the CPU seconds.
"""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import urllib3

THREADS = 16
HEADERS = {"Content-Type": "application/apply-patch+yaml", "Accept": "application/json"}
OK = frozenset({200, 201})


def main() -> int:
    given = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    requests = [(path, json.dumps(body).encode()) for path, body in given["requests"]]
    pool = urllib3.HTTPSConnectionPool(
        given["host"],
        given["port"],
        maxsize=THREADS,
        ca_certs=given["authority"],
        cert_file=given["certificate"],
    )

    def send(request: tuple[str, bytes]) -> int:
        path, body = request
        return int(pool.request("PATCH", path, body=body, headers=HEADERS).status)

    started_s, started_cpu_s = time.monotonic(), time.process_time()
    with ThreadPoolExecutor(THREADS) as threads:
        statuses = set(threads.map(send, requests))
    took_s, cpu_s = time.monotonic() - started_s, time.process_time() - started_cpu_s
    if not statuses <= OK:
        print(f"the server answered {sorted(statuses)}", file=sys.stderr)
        return 1
    print(json.dumps({"phase_s": took_s, "phase_cpu_s": cpu_s}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
