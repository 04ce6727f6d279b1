# SPDX-License-Identifier: GPL-3.0-or-later
"""The monitoring part of the contract: all targets are scraped, and an alert is delivered."""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from crypto_lakehouse.settings import Settings
from crypto_lakehouse.verify import Patience, VerificationError

if TYPE_CHECKING:
    import httpx

USER: Final = "lakehouse"
METRIC: Final = "lakehouse_verification_requested"
ALERT: Final = "LakehouseVerification"
FILE_NAME: Final = "lakehouse-verification.prom"
POLL_S: Final = 0.2
OWN_JOB: Final = "verify"
"""The job of this process in Prometheus where it publishes the figure itself; the target is temporary."""


def targets_are_up(settings: Settings, timeout_s: float, patience: Patience) -> str:
    """Every target that Prometheus knows answers its scrapes; on a shared cluster, every one of our namespace.

    Raises:
        VerificationError: naming the targets that do not after `timeout_s`.
    """
    deadline = time.monotonic() + timeout_s
    with _client(settings, "prometheus") as client:
        while True:
            active = _get(client, patience, "api/v1/targets", state="active")["data"]["activeTargets"]
            targets = [target for target in active if _is_ours(target["labels"], settings.metrics_namespace)]
            down = [target for target in targets if target["health"] != "up"]
            if targets and not down:
                return f"{len(targets)} of {len(targets)} targets up"
            if time.monotonic() > deadline:
                raise VerificationError(_describe(targets, down))
            time.sleep(POLL_S)


def _is_ours(labels: dict[str, str], namespace: str | None) -> bool:
    return namespace is None or (labels.get("namespace") == namespace and labels.get("job") != OWN_JOB)


def _describe(targets: list[Any], down: list[Any]) -> str:
    if not targets:
        return "Prometheus has no target"
    named = "; ".join(
        f"{target['labels']['job']} at {target['scrapeUrl']}: {target['lastError'] or target['health']}"
        for target in down
    )
    return f"{len(down)} of {len(targets)} targets are not up: {named}"


def alert_is_delivered(settings: Settings, timeout_s: float, patience: Patience) -> str:
    """A figure put where Prometheus reads becomes an alert there and reaches Alertmanager.

    Raises:
        VerificationError: naming the station at which the alert was last seen.
    """
    identifier = secrets.token_hex(8)
    with _shown(settings, identifier), _client(settings, "alertmanager") as client:
        started = time.monotonic()
        deadline = started + timeout_s
        while time.monotonic() < deadline:
            alerts = _get(client, patience, "api/v2/alerts", filter=f'alertname="{ALERT}"')
            if any(alert["labels"].get("id") == identifier for alert in alerts):
                return f"in Alertmanager {time.monotonic() - started:.1f} s after the figure was put"
            time.sleep(POLL_S)
    raise VerificationError(_last_station(settings, patience, identifier, timeout_s))


@contextmanager
def _shown(settings: Settings, identifier: str) -> Iterator[None]:
    """Show the figure: on a port of this process where one is given, else in a file that the node exporter reads."""
    text = f'# TYPE {METRIC} gauge\n{METRIC}{{id="{identifier}"}} 1\n'
    if settings.verification_port is not None:
        with _served(settings.verification_port, text):
            yield
        return
    file = Path(settings.require("textfile_dir"), FILE_NAME)
    _write(file, text)
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


@contextmanager
def _served(port: int, text: str) -> Iterator[None]:
    class Figure(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = text.encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
            pass

    # Prometheus scrapes from another machine; the published figure is not a secret.
    with ThreadingHTTPServer(("0.0.0.0", port), Figure) as server:  # noqa: S104
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield
        finally:
            server.shutdown()


def _write(file: Path, text: str) -> None:
    # Renamed into place, so that the node exporter never reads an incomplete file.
    draft = file.with_suffix(".draft")
    draft.write_text(text)
    draft.chmod(0o644)
    draft.rename(file)


def _last_station(settings: Settings, patience: Patience, identifier: str, timeout_s: float) -> str:
    with _client(settings, "prometheus") as client:
        series = f'{METRIC}{{id="{identifier}"}}'
        scraped = _get(client, patience, "api/v1/query", query=f"last_over_time({series}[10m])")["data"]["result"]
        alerts = _get(client, patience, "api/v1/alerts")["data"]["alerts"]
    if not scraped:
        reads = "the node exporter read LAKEHOUSE_TEXTFILE_DIR"
        reads = "Prometheus reach LAKEHOUSE_VERIFICATION_PORT of this process" if settings.verification_port else reads
        return f"after {timeout_s:.0f} s Prometheus has no {series}: does {reads}?"
    if not any(alert["labels"].get("id") == identifier for alert in alerts):
        return f"after {timeout_s:.0f} s Prometheus has {series} and no alert {ALERT}: is its rule loaded?"
    return f"after {timeout_s:.0f} s the alert fires in Prometheus and is not in Alertmanager"


def _client(settings: Settings, service: str) -> httpx.Client:
    import httpx

    password = settings.secret(f"{service}_password")
    return httpx.Client(
        base_url=settings.require(f"{service}_url").rstrip("/") + "/",
        auth=(USER, password) if password else None,
        timeout=10.0,
        trust_env=False,
    )


def _get(client: httpx.Client, patience: Patience, path: str, **parameters: str) -> Any:
    answer = patience.ask(lambda: client.get(path, params=parameters))
    if not answer.is_success:
        raise VerificationError(f"GET {answer.request.url.path}: HTTP {answer.status_code}")
    return json.loads(answer.content)
