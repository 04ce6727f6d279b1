# SPDX-License-Identifier: GPL-3.0-or-later
"""A job for tests: runs the actions of its arguments in order, and reports them like the application's jobs."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[3] / "roles/application/files/src"))
# A daemon: in a separate session, without its parent.
DAEMON = ["sh", "-c", 'setsid sh -c \'trap "" TERM; echo $$ >> "$0"; while :; do sleep 1; done\' "$0" &']
Word = Callable[[str], Mapping[str, Any]]


def count(path: str) -> Mapping[str, Any]:
    """Each run adds a line."""
    with Path(path).open("a", encoding="ascii") as file:
        file.write(f"{os.getpid()}\n")
    return {}


def daemon(path: str) -> Mapping[str, Any]:
    subprocess.run([*DAEMON, path], check=True)
    return {}


def steps(number: str) -> Mapping[str, Any]:
    from crypto_lakehouse import jobs

    for step in range(1, int(number) + 1):
        jobs.progress(f"step {step}", objects=(step, int(number)))
        time.sleep(0.6)
    return {}


def until(path: str) -> Mapping[str, Any]:
    while not Path(path).exists():
        time.sleep(0.05)
    return {}


def given(_value: str) -> Mapping[str, Any]:
    from crypto_lakehouse import jobs

    return {"input": hashlib.sha256(jobs.read_input().encode()).hexdigest()}


def betray(_value: str) -> Mapping[str, Any]:
    from crypto_lakehouse import jobs

    print(f"the input is {jobs.read_input()}")
    return {}


def scratch(_value: str) -> Mapping[str, Any]:
    from crypto_lakehouse import jobs

    return {"scratch": [str(jobs.scratch()), f"{jobs.scratch().stat().st_mode & 0o777:o}", os.environ.get("TMPDIR")]}


def move(size: str) -> Mapping[str, Any]:
    from crypto_lakehouse import jobs

    path, block = jobs.scratch() / "data", os.urandom(1 << 20)
    with path.open("wb") as file:
        for _block in range(int(size) >> 20):
            file.write(block)
    with path.open("rb") as file:
        while file.read(1 << 20):
            pass
    return {}


def rows(number: str) -> Mapping[str, Any]:
    """Rows of 10 kB."""
    texts = (hashlib.sha256(str(row).encode()).hexdigest() * 160 for row in range(int(number)))
    return {"rows": [{"id": row, "text": text} for row, text in enumerate(texts)]}


WORDS: Mapping[str, Word] = {
    "--count": count,
    "--daemon": daemon,
    "--steps": steps,
    "--until": until,
    "--input": given,
    "--betray": betray,
    "--scratch": scratch,
    "--move": move,
    "--rows": rows,
    "--changed": lambda value: {"changed": [value]},
    "--exit": lambda value: {"status": int(value)},
}


def main() -> int:
    """Run the actions of the arguments; return their exit status."""
    from crypto_lakehouse import jobs

    result: dict[str, Any] = {"changed": [], "arguments": sys.argv[1:]}
    for argument in sys.argv[1:]:
        word, _equals, value = argument.partition("=")
        result |= WORDS[word](value)
    print(json.dumps({"pid": os.getpid()}))
    jobs.finish(result)
    return int(result.get("status", 0))


if __name__ == "__main__":
    sys.exit(main())
