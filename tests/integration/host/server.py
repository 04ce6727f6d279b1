# SPDX-License-Identifier: GPL-3.0-or-later
"""A small service for tests: answers /health with 200, writes when it starts and ends, and misbehaves on request."""

from __future__ import annotations

import argparse
import http.server
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType


class Handler(http.server.BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class calls it so
        return


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("settings", type=Path)
    parser.add_argument("--journal", type=Path, help="write a line here when it begins to answer and when it ends")
    parser.add_argument("--needs", type=int, help="end at once when nobody listens on this port")
    parser.add_argument("--start-delay-s", type=float, default=0.0)
    parser.add_argument("--stop-delay-s", type=float, default=0.0)
    parser.add_argument("--status", type=int, default=200)
    parser.add_argument("--child", action="store_true", help="have a child process that ignores TERM")
    options = parser.parse_args()

    def note(word: str) -> None:
        if options.journal:
            with options.journal.open("a") as journal:
                journal.write(f"{options.settings.stem} {word}\n")

    def end(number: int, frame: FrameType | None) -> None:
        time.sleep(options.stop_delay_s)
        note("ends")
        sys.exit(0)

    signal.signal(signal.SIGTERM, end)
    note("starts")
    if options.needs:
        import socket

        with socket.create_connection(("127.0.0.1", options.needs), timeout=1):
            pass
    if options.child:
        ignore_term = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
        subprocess.Popen([sys.executable, "-c", ignore_term])
    time.sleep(options.start_delay_s)
    Handler.status = options.status
    sys.stdout.write(f"settings: {options.settings.read_text()}environment: {sorted(os.environ)}\n")
    sys.stdout.flush()
    http.server.ThreadingHTTPServer.allow_reuse_address = True
    with http.server.ThreadingHTTPServer(("127.0.0.1", options.port), Handler) as server:
        note("answers")
        server.serve_forever()


if __name__ == "__main__":
    main()
