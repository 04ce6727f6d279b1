# SPDX-License-Identifier: GPL-3.0-or-later
"""The monitoring part of the contract: everything is scraped, and an alert finds its way."""

from __future__ import annotations

import json
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from crypto_lakehouse.settings import Settings
from crypto_lakehouse.verify import VerificationError

if TYPE_CHECKING:
    import httpx

USER: Final = "lakehouse"
METRIC: Final = "lakehouse_verification_requested"
ALERT: Final = "LakehouseVerification"
FILE_NAME: Final = "lakehouse-verification.prom"
POLL_S: Final = 0.2


def targets_are_up(settings: Settings, timeout_s: float) -> str:
    """Every target that Prometheus knows answers its scrapes.

    Raises:
        VerificationError: naming the targets that do not after `timeout_s`.
    """
    deadline = time.monotonic() + timeout_s
    with _client(settings, "prometheus") as client:
        while True:
            targets = _get(client, "api/v1/targets", state="active")["data"]["activeTargets"]
            down = [target for target in targets if target["health"] != "up"]
            if targets and not down:
                return f"{len(targets)} of {len(targets)} targets up"
            if time.monotonic() > deadline:
                raise VerificationError(_describe(targets, down))
            time.sleep(POLL_S)


def _describe(targets: list[Any], down: list[Any]) -> str:
    if not targets:
        return "Prometheus has no target"
    named = "; ".join(
        f"{target['labels']['job']} at {target['scrapeUrl']}: {target['lastError'] or target['health']}"
        for target in down
    )
    return f"{len(down)} of {len(targets)} targets are not up: {named}"


def alert_is_delivered(settings: Settings, timeout_s: float) -> str:
    """A figure put where the node exporter reads becomes an alert in Prometheus and reaches Alertmanager.

    Raises:
        VerificationError: naming the station at which the alert was last seen.
    """
    identifier = secrets.token_hex(8)
    deadline = time.monotonic() + timeout_s
    file = Path(settings.require("textfile_dir"), FILE_NAME)
    started = time.monotonic()
    _write(file, identifier)
    try:
        with _client(settings, "alertmanager") as client:
            while time.monotonic() < deadline:
                alerts = _get(client, "api/v2/alerts", filter=f'alertname="{ALERT}"')
                if any(alert["labels"].get("id") == identifier for alert in alerts):
                    return f"in Alertmanager {time.monotonic() - started:.1f} s after the figure was put"
                time.sleep(POLL_S)
    finally:
        file.unlink(missing_ok=True)
    raise VerificationError(_last_station(settings, identifier, timeout_s))


def _write(file: Path, identifier: str) -> None:
    # Renamed into place: the node exporter must not read half a file.
    draft = file.with_suffix(".draft")
    draft.write_text(f'# TYPE {METRIC} gauge\n{METRIC}{{id="{identifier}"}} 1\n')
    draft.chmod(0o644)
    draft.rename(file)


def _last_station(settings: Settings, identifier: str, timeout_s: float) -> str:
    with _client(settings, "prometheus") as client:
        series = f'{METRIC}{{id="{identifier}"}}'
        scraped = _get(client, "api/v1/query", query=f"last_over_time({series}[10m])")["data"]["result"]
        alerts = _get(client, "api/v1/alerts")["data"]["alerts"]
    if not scraped:
        return (
            f"after {timeout_s:.0f} s Prometheus has no {series}: does the node exporter read LAKEHOUSE_TEXTFILE_DIR?"
        )
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


def _get(client: httpx.Client, path: str, **parameters: str) -> Any:
    answer = client.get(path, params=parameters)
    if not answer.is_success:
        raise VerificationError(f"GET {answer.request.url.path}: HTTP {answer.status_code}")
    return json.loads(answer.content)
