# SPDX-License-Identifier: GPL-3.0-or-later
"""`lakehouse verify`: verifies that the deployed platform fulfils the contract of every target.

It runs with rights of its own: it may ask for a flow run, read every tier, query the API and look at the
monitoring, and it can write no data. The day that it has loaded is one of the packaged sample, so that the
right result is known and the same day is never loaded twice.

A caller that knows how the platform is described names that description by a digest. The whole contract is recorded
as passed for it, and with `--unless-verified` one query is enough as long as that record is the last.
"""

from __future__ import annotations

import argparse
import logging
import re
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Final, TypeVar

from crypto_lakehouse import jobs
from crypto_lakehouse.settings import Settings, SettingsError

log = logging.getLogger("lakehouse.verify")

T = TypeVar("T")

TIMEOUT_S: Final = 120.0
PATIENCE_S: Final = 60.0
"""Seconds that a verification spends on requests without an answer: a busy machine may answer late."""
RETRY_DELAY_S: Final = 0.5
_DIGEST: Final = re.compile(r"[0-9a-f]{8,64}")


class VerificationError(RuntimeError):
    """A part of the contract fails; the message contains the observed and the expected values."""


class LateError(VerificationError):
    """No answer, or one that says that a part was too slow or busy. It comes from a busy machine, or from a fault."""


class Degraded(Exception):  # noqa: N818 - a state, not an error
    """A part of the contract works and needs attention; the message contains the reason."""


@dataclass(frozen=True, slots=True)
class Result:
    """One part of the contract; a degraded one is healthy, and its detail begins with `degraded:`."""

    name: str
    healthy: bool
    detail: str
    duration_s: float
    degraded: bool = False


Check = Callable[[Settings], str]
"""Returns what it saw, or raises."""


class Patience:
    """The seconds that are left for requests without an answer, for all parts of a verification together."""

    def __init__(self, left_s: float = 0.0) -> None:
        self.left_s = left_s

    def ask(self, question: Callable[[], T]) -> T:
        """Return the answer. The question is repeated until there is one, so it must not change anything."""
        import httpx

        while True:
            started = time.monotonic()
            try:
                return question()
            except (LateError, httpx.TransportError, OSError):
                self.left_s -= time.monotonic() - started + RETRY_DELAY_S
                if self.left_s < 0:
                    raise
                time.sleep(RETRY_DELAY_S)


def main(argv: Sequence[str]) -> int:
    """Run the command; prints a JSON list of results, returns 1 when one of them is not healthy."""
    from crypto_lakehouse.verify import record

    arguments = _arguments(argv)
    level = logging.ERROR if arguments.json else logging.INFO
    logging.basicConfig(stream=sys.stderr, level=level, format="%(message)s", force=True)
    for noisy in ("botocore", "httpx", "pyiceberg", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    settings = Settings.from_environment()
    results = reading(settings, arguments.description) if arguments.unless_verified else []
    if not results:
        results = verify(settings, arguments.timeout_s)
        if arguments.description and all(result.healthy for result in results):
            record.record(settings, arguments.description)
    jobs.finish([asdict(result) for result in results])
    return 0 if all(result.healthy for result in results) else 1


def reading(settings: Settings, description: str) -> list[Result]:
    """Return the result of one query, or nothing where the whole contract has to be passed.

    It has to be where it was not passed last for this description, and where the query's answer is not the right one:
    the contract says which part is at fault.
    """
    from crypto_lakehouse.verify import data, record

    if not record.is_recorded(settings, description):
        return []
    result = _run(settings, "gold through API", data.gold_is_answered)
    return [result] if result.healthy else []


def verify(settings: Settings, timeout_s: float = TIMEOUT_S) -> list[Result]:
    """Check the whole contract; independent parts run at the same time."""
    from crypto_lakehouse.verify import api, data, monitoring

    patience = Patience(min(PATIENCE_S, timeout_s))
    with ThreadPoolExecutor() as pool:

        def start(name: str, check: Callable[..., str], **limits: Any) -> Future[Result]:
            return pool.submit(_run, settings, name, partial(check, **limits))

        alert = start("alert delivered", monitoring.alert_is_delivered, timeout_s=timeout_s, patience=patience)
        targets = start("metrics scraped", monitoring.targets_are_up, timeout_s=timeout_s, patience=patience)
        flow = start("flow run through every tier", data.flow_runs, timeout_s=timeout_s, patience=patience)
        flow.result()
        # The machine is idle only now: beside a starting process the response times would not be those of the API.
        health = start("API response time", api.health_in_time, timeout_s=timeout_s)
        health.result()
        queries = start("query response time", api.queries_in_time, timeout_s=timeout_s)
        queries.result()
        tiers = [
            _run(settings, "raw object and bronze rows", partial(data.bronze_is_complete, patience=patience)),
            _run(settings, "silver candles and quarantine", partial(data.silver_is_right, patience=patience)),
            _run(settings, "gold through API, DuckDB and catalog", partial(data.gold_is_right, patience=patience)),
        ]
        return [flow.result(), *tiers, health.result(), queries.result(), targets.result(), alert.result()]


def _run(settings: Settings, name: str, check: Check) -> Result:
    from crypto_lakehouse.bootstrap import mask

    started = time.perf_counter()
    degraded = False
    try:
        detail, healthy = check(settings), True
    except Degraded as state:
        detail, healthy, degraded = f"degraded: {state}", True, True
    except (VerificationError, SettingsError) as error:
        detail, healthy = str(error), False
    except Exception as error:  # noqa: BLE001 - whatever a driver throws is a part that does not hold
        detail, healthy = f"{type(error).__name__}: {error}", False
    detail = mask(" ".join(detail.split()), settings)
    result = Result(name, healthy, detail, round(time.perf_counter() - started, 3), degraded)
    log.info("%s  %s (%.1f s): %s", "ok    " if healthy else "FAILED", name, result.duration_s, detail)
    return result


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="lakehouse verify", description=__doc__)
    parser.add_argument("--json", action="store_true", help="only the JSON list, nothing about the course of things")
    parser.add_argument("--timeout-s", type=float, default=TIMEOUT_S, help="time limit of each part")
    parser.add_argument("--description", type=_digest, metavar="DIGEST", help="how the platform is described, recorded")
    parser.add_argument(
        "--unless-verified", action="store_true", help="one query only, where the contract was passed for --description"
    )
    arguments = parser.parse_args(argv)
    if arguments.unless_verified and not arguments.description:
        parser.error("--unless-verified needs --description")
    return arguments


def _digest(text: str) -> str:
    if not _DIGEST.fullmatch(text):
        raise argparse.ArgumentTypeError("a digest has 8 to 64 digits from 0 to f")
    return text
