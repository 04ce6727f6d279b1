# SPDX-License-Identifier: GPL-3.0-or-later
"""Each part of the verification fails when its object is wrong, and reports its observation."""

from __future__ import annotations

import itertools
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import services
from hypothesis import given
from hypothesis import strategies as st

from crypto_lakehouse import verify
from crypto_lakehouse.settings import Settings, SettingsError
from crypto_lakehouse.tables import GOLD_OHLCV_DAILY, GOLD_VOLATILITY, SILVER_KLINES
from crypto_lakehouse.verify import LateError, Patience, Result, VerificationError, api, data, monitoring, record

NOWHERE = "http://127.0.0.1:9"


@dataclass
class StandIn:
    """A server with JSON answers by path, computed at each request; it can be slow, or fail."""

    url: str
    answers: dict[str, Callable[[], Any]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    delay_s: float = 0.0
    status: int = 200


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            path = urlsplit(self.path).path
            server.requests.append(path)
            time.sleep(server.delay_s)
            content = json.dumps(server.answers[path]()).encode()
            self.send_response(server.status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            return

    with ThreadingHTTPServer((services.HOST, 0), Handler) as listener:
        server = StandIn(f"http://{services.HOST}:{listener.server_port}")
        threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield server
        listener.shutdown()


def monitored(url: str, folder: Path) -> Settings:
    return services.settings_from(
        {
            "LAKEHOUSE_PROMETHEUS_URL": url,
            "LAKEHOUSE_ALERTMANAGER_URL": url,
            "LAKEHOUSE_TEXTFILE_DIR": str(folder),
        }
    )


def target(health: str) -> dict[str, Any]:
    error = "" if health == "up" else "connection refused"
    return {"health": health, "labels": {"job": "api"}, "scrapeUrl": "http://127.0.0.1/metrics", "lastError": error}


@pytest.mark.parametrize("lost", [LateError("late"), httpx.ReadTimeout("timed out"), ConnectionResetError()])
def test_a_question_without_an_answer_is_asked_again(lost: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "RETRY_DELAY_S", 0.0)
    errors = [lost, lost]

    def question() -> str:
        if errors:
            raise errors.pop()
        return "the answer"

    assert Patience(60).ask(question) == "the answer"


def test_the_patience_of_a_verification_is_used_up_by_all_of_its_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "RETRY_DELAY_S", 0.01)
    patience = Patience(0.1)
    asked = []

    def question() -> None:
        asked.append(time.monotonic())
        raise LateError("late")

    with pytest.raises(LateError):
        patience.ask(question)
    first = len(asked)
    assert 1 < first <= 11
    with pytest.raises(LateError):
        patience.ask(question)
    assert len(asked) == first + 1


def test_an_answer_that_is_wrong_is_believed() -> None:
    asked = []

    def question() -> None:
        asked.append(1)
        raise VerificationError("wrong")

    with pytest.raises(VerificationError, match="wrong"):
        Patience(60).ask(question)
    assert asked == [1]


def test_a_target_that_stays_down_is_named(stand_in: StandIn, tmp_path: Path) -> None:
    stand_in.answers["/api/v1/targets"] = lambda: {"data": {"activeTargets": [target("up"), target("down")]}}
    with pytest.raises(VerificationError, match=r"1 of 2 targets are not up: api at .*: connection refused"):
        monitoring.targets_are_up(monitored(stand_in.url, tmp_path), 0.3, Patience())


def test_a_prometheus_without_targets_is_not_taken_for_a_healthy_one(stand_in: StandIn, tmp_path: Path) -> None:
    stand_in.answers["/api/v1/targets"] = lambda: {"data": {"activeTargets": []}}
    with pytest.raises(VerificationError, match="no target"):
        monitoring.targets_are_up(monitored(stand_in.url, tmp_path), 0.1, Patience())


def test_targets_that_come_up_are_waited_for(stand_in: StandIn, tmp_path: Path) -> None:
    states = iter(["unknown", "up"])
    stand_in.answers["/api/v1/targets"] = lambda: {"data": {"activeTargets": [target(next(states))]}}
    assert monitoring.targets_are_up(monitored(stand_in.url, tmp_path), 10, Patience()) == "1 of 1 targets up"


def published_id(folder: Path) -> str | None:
    for file in folder.glob("*.prom"):
        match = re.fullmatch(
            r'# TYPE lakehouse_verification_requested gauge\nlakehouse_verification_requested\{id="(\w+)"\} 1\n',
            file.read_text(),
        )
        assert match
        return match[1]
    return None


def labelled(identifier: str | None) -> list[dict[str, Any]]:
    return [{"labels": {"alertname": "LakehouseVerification", "id": identifier}}]


def test_an_alert_with_the_published_id_is_found_and_the_figure_removed(stand_in: StandIn, tmp_path: Path) -> None:
    stand_in.answers["/api/v2/alerts"] = lambda: labelled(published_id(tmp_path))
    assert monitoring.alert_is_delivered(monitored(stand_in.url, tmp_path), 10, Patience()).startswith(
        "in Alertmanager"
    )
    assert list(tmp_path.iterdir()) == []


def test_where_there_is_no_node_exporter_the_figure_is_shown_on_a_port_for_as_long_as_it_is_waited_for(
    stand_in: StandIn,
) -> None:
    (port,) = services.free_ports(1)
    url = f"http://{services.HOST}:{port}/metrics"
    variables = {"PROMETHEUS_URL": stand_in.url, "ALERTMANAGER_URL": stand_in.url, "VERIFICATION_PORT": str(port)}
    settings = services.settings_from({f"LAKEHOUSE_{name}": value for name, value in variables.items()})

    def alerts() -> list[dict[str, Any]]:
        figure = httpx.get(url, trust_env=False).text
        match = re.search(r'^lakehouse_verification_requested\{id="(\w+)"\} 1$', figure, re.MULTILINE)
        assert match
        return labelled(match[1])

    stand_in.answers["/api/v2/alerts"] = alerts
    assert monitoring.alert_is_delivered(settings, 10, Patience()).startswith("in Alertmanager")
    with pytest.raises(httpx.ConnectError):
        httpx.get(url, trust_env=False)


def test_on_a_shared_cluster_only_targets_of_our_own_namespace_count(stand_in: StandIn, tmp_path: Path) -> None:
    def placed(job: str, namespace: str, health: str) -> dict[str, Any]:
        return {**target(health), "labels": {"job": job, "namespace": namespace}}

    settings = monitored(stand_in.url, tmp_path).model_copy(update={"metrics_namespace": "lake"})
    found = [placed("api", "lake", "up"), placed("verify", "lake", "unknown"), placed("shop", "other", "down")]
    stand_in.answers["/api/v1/targets"] = lambda: {"data": {"activeTargets": found}}
    assert monitoring.targets_are_up(settings, 10, Patience()) == "1 of 1 targets up"
    found[0]["health"] = "down"
    with pytest.raises(VerificationError, match="1 of 1 targets are not up"):
        monitoring.targets_are_up(settings, 0.1, Patience())


@pytest.mark.parametrize(
    ("scraped", "alerts", "message"),
    [
        ([], [], "Prometheus has no lakehouse_verification_requested"),
        ([{}], [], "no alert LakehouseVerification: is its rule loaded"),
        ([{}], None, "fires in Prometheus and is not in Alertmanager"),
    ],
)
def test_an_alert_that_does_not_arrive_is_followed_to_where_it_stopped(
    stand_in: StandIn, tmp_path: Path, scraped: list[Any], alerts: list[Any] | None, message: str
) -> None:
    seen: list[str | None] = []

    def old_alert() -> list[dict[str, Any]]:
        seen.append(published_id(tmp_path))
        return labelled("of-an-earlier-verification")

    stand_in.answers["/api/v2/alerts"] = old_alert
    stand_in.answers["/api/v1/query"] = lambda: {"data": {"result": scraped}}
    stand_in.answers["/api/v1/alerts"] = lambda: {"data": {"alerts": labelled(seen[0]) if alerts is None else alerts}}
    with pytest.raises(VerificationError, match=message):
        monitoring.alert_is_delivered(monitored(stand_in.url, tmp_path), 0.3, Patience())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [([5.0], 95, 5.0), ([float(x) for x in range(1, 201)], 95, 190.0), ([1, 2], 50, 1)],
)
def test_percentiles_are_values_that_were_measured(values: list[float], percent: int, expected: float) -> None:
    assert api.percentile(values, percent) == expected


@pytest.fixture
def api_settings(stand_in: StandIn) -> Settings:
    """Return the settings for an API that answers."""
    columns = [{"name": "day", "type": "DATE"}]
    stand_in.answers["/ready"] = dict
    stand_in.answers["/v1/query"] = lambda: {"columns": columns, "rows": [["2024-01-01"]]}
    return services.settings_from({"LAKEHOUSE_API_URL": stand_in.url, "LAKEHOUSE_API_TOKEN": "t" * 20})


CHECKS = [
    (api.health_in_time, "REQUESTS", "requests", "/ready"),
    (api.queries_in_time, "QUERIES", "queries", "/v1/query"),
]
Measured = tuple[Callable[[Settings, float], str], str, str, str]


@pytest.mark.parametrize("measured", CHECKS)
def test_an_api_that_is_slow_in_every_round_fails_with_the_figures(
    stand_in: StandIn, api_settings: Settings, monkeypatch: pytest.MonkeyPatch, measured: Measured
) -> None:
    check, count, what, path = measured
    monkeypatch.setattr(api, count, 8)
    monkeypatch.setattr(api, "processor_use_percent", lambda: 10.0)
    stand_in.delay_s = 0.35
    with pytest.raises(VerificationError, match=rf"of 8 {what}: \d+ ms, then .*, then .*; the limit is 300 ms"):
        check(api_settings, 60)
    assert stand_in.requests == [path] * 3 * 8


@pytest.mark.parametrize("measured", CHECKS)
def test_on_a_busy_machine_a_slow_api_is_degraded_and_not_failed(
    stand_in: StandIn, api_settings: Settings, monkeypatch: pytest.MonkeyPatch, measured: Measured
) -> None:
    check, count, _what, _path = measured
    monkeypatch.setattr(api, count, 8)
    monkeypatch.setattr(api, "processor_use_percent", lambda: 98.0)
    stand_in.delay_s = 0.35
    result = verify._run(api_settings, "name", lambda settings: check(settings, 60))
    assert (result.healthy, result.degraded) == (True, True)
    assert result.detail.startswith("degraded: slow: 95th percentile of 8 ")
    assert "98 % processor use" in result.detail


def one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Send one request at a time, since the status of the stand-in is that of all answers."""
    monkeypatch.setattr(api, "CONCURRENCY", 1)
    monkeypatch.setattr(api, "QUERY_CONCURRENCY", 1)


@pytest.mark.parametrize("busy_percent", [10.0, 98.0])
@pytest.mark.parametrize("measured", CHECKS)
def test_a_late_answer_is_measured_again(
    stand_in: StandIn, api_settings: Settings, monkeypatch: pytest.MonkeyPatch, measured: Measured, busy_percent: float
) -> None:
    check, count, what, path = measured
    monkeypatch.setattr(api, count, 8)
    monkeypatch.setattr(api, "P95_LIMIT_MS", 5000.0)
    monkeypatch.setattr(api, "processor_use_percent", lambda: busy_percent)
    one_after_the_other(monkeypatch)
    answer, answers = stand_in.answers[path], iter([503])

    def late_once() -> Any:
        stand_in.status = next(answers, 200)
        return answer()

    stand_in.answers[path] = late_once
    assert re.match(rf"95th percentile of 8 {what}: no answer, then \d+ ms", check(api_settings, 60))
    assert len(stand_in.requests) == 16


@pytest.mark.parametrize("measured", CHECKS)
def test_on_a_busy_machine_late_answers_in_every_round_are_degraded_and_told(
    stand_in: StandIn, api_settings: Settings, monkeypatch: pytest.MonkeyPatch, measured: Measured
) -> None:
    check, count, _what, path = measured
    monkeypatch.setattr(api, count, 8)
    monkeypatch.setattr(api, "P95_LIMIT_MS", 5000.0)
    one_after_the_other(monkeypatch)
    answer, asked = stand_in.answers[path], itertools.count()

    def often_late() -> Any:
        stand_in.status = 503 if next(asked) % 4 == 0 else 200
        return answer()

    stand_in.answers[path] = often_late
    monkeypatch.setattr(api, "processor_use_percent", lambda: 98.0)
    result = verify._run(api_settings, "name", lambda settings: check(settings, 60))
    assert result.degraded
    assert re.search(rf"\d+ of 24 were late, the last one: \S+ {path}: HTTP 503", result.detail)
    monkeypatch.setattr(api, "processor_use_percent", lambda: 10.0)
    with pytest.raises(VerificationError, match="were late"):
        check(api_settings, 60)


@pytest.mark.parametrize("measured", CHECKS)
def test_a_fast_api_needs_one_round(
    stand_in: StandIn, api_settings: Settings, monkeypatch: pytest.MonkeyPatch, measured: Measured
) -> None:
    check, count, what, path = measured
    monkeypatch.setattr(api, count, 20)
    monkeypatch.setattr(api, "P95_LIMIT_MS", 5000.0)
    assert f"95th percentile of 20 {what}" in check(api_settings, 60)
    assert stand_in.requests == [path] * 20


@pytest.mark.parametrize("measured", CHECKS)
def test_an_api_that_does_not_get_on_is_given_up(stand_in: StandIn, api_settings: Settings, measured: Measured) -> None:
    stand_in.delay_s = 0.2
    with pytest.raises(VerificationError, match="not answered within the time limit"):
        measured[0](api_settings, 0.9)


@pytest.mark.parametrize("measured", CHECKS)
def test_an_api_that_fails_is_reported_with_its_words_however_busy_the_machine_is(
    stand_in: StandIn, api_settings: Settings, monkeypatch: pytest.MonkeyPatch, measured: Measured
) -> None:
    monkeypatch.setattr(api, "processor_use_percent", lambda: 100.0)
    stand_in.status = 503
    with pytest.raises(VerificationError, match=f"{measured[3]}: HTTP 503"):
        measured[0](api_settings, 60)


FIGURES = {
    "exchange": "coinbase",
    "symbol": "BTCUSD",
    "kline_interval": "1h",
    "day": date(2019, 9, 30),
    "log_returns": 24,
    "realised_volatility": 0.1 + 0.2,
    "annualised_volatility": 1e-7,
}


def test_a_checksum_does_not_depend_on_how_a_reader_types_values() -> None:
    as_json = {**FIGURES, "day": "2019-09-30", "log_returns": "24"}
    assert data.checksum(GOLD_VOLATILITY, [FIGURES]) == data.checksum(GOLD_VOLATILITY, [as_json])


@given(st.decimals(-(10**19), 10**19, places=18))
def test_decimals_are_one_value_however_they_are_written(value: Decimal) -> None:
    names = [column.name for column in GOLD_OHLCV_DAILY.columns]
    one = dict.fromkeys(names, value)
    other = dict.fromkeys(names, str(value))
    for name in ("exchange", "symbol", "kline_interval", "day", "klines", "expected_klines"):
        one[name] = other[name] = "same"  # type: ignore[assignment]
    assert data.checksum(GOLD_OHLCV_DAILY, [one]) == data.checksum(GOLD_OHLCV_DAILY, [other])


def test_times_are_one_value_in_every_zone() -> None:
    row = dict.fromkeys(column.name for column in SILVER_KLINES.columns)
    moment = datetime(2019, 9, 30, 12, tzinfo=UTC)
    elsewhere = moment.astimezone(timezone(timedelta(hours=5)))
    first, second = ({**row, "open_time": each} for each in (moment, elsewhere))
    assert data.checksum(SILVER_KLINES, [first]) == data.checksum(SILVER_KLINES, [second])


@pytest.mark.parametrize("change", [{"log_returns": 23}, {"realised_volatility": 0.3}, {"symbol": "ETHUSD"}])
def test_any_other_value_is_another_checksum(change: dict[str, Any]) -> None:
    assert data.checksum(GOLD_VOLATILITY, [FIGURES]) != data.checksum(GOLD_VOLATILITY, [{**FIGURES, **change}])


def test_a_row_more_is_another_checksum_and_their_order_is_none() -> None:
    other = {**FIGURES, "symbol": "ETHUSD"}
    both = data.checksum(GOLD_VOLATILITY, [FIGURES, other])
    assert both == data.checksum(GOLD_VOLATILITY, [other, FIGURES])
    assert both != data.checksum(GOLD_VOLATILITY, [FIGURES])


def test_what_is_expected_comes_from_the_sample() -> None:
    assert {name: count for name, (count, _checksum) in data.expected_fingerprint().items()} == {
        "bronze.klines": 24,
        "silver.klines": 24,
        "silver.klines_quarantine": 0,
        "gold.ohlcv_daily": 1,
        "gold.volatility": 1,
    }


def test_nothing_that_answers_gives_results_and_no_secret(
    clean_environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for name, value in {
        "LAKEHOUSE_API_URL": NOWHERE,
        "LAKEHOUSE_API_TOKEN": "token-that-is-secret",
        "LAKEHOUSE_PROMETHEUS_URL": NOWHERE,
        "LAKEHOUSE_ALERTMANAGER_URL": NOWHERE,
        "LAKEHOUSE_TEXTFILE_DIR": str(tmp_path),
        "LAKEHOUSE_S3_ENDPOINT": NOWHERE,
        "LAKEHOUSE_S3_ACCESS_KEY": "key-of-somebody",
        "LAKEHOUSE_S3_SECRET_KEY": "secret-of-somebody",
        "LAKEHOUSE_CATALOG_URI": NOWHERE,
        "LAKEHOUSE_BRONZE_BUCKET": "bronze",
        "LAKEHOUSE_BRONZE_WAREHOUSE": "s3://bronze-tables",
        "LAKEHOUSE_SILVER_WAREHOUSE": "s3://silver-tables",
        "LAKEHOUSE_GOLD_WAREHOUSE": "s3://gold-tables",
        "PREFECT_API_URL": f"{NOWHERE}/api",
        "PREFECT_API_AUTH_STRING": "lakehouse:password-of-prefect",
    }.items():
        clean_environment.setenv(name, value)
    assert verify.main(["--json", "--timeout-s", "1"]) == 1
    output = capsys.readouterr()
    results = json.loads(output.out)
    assert len(results) == 8
    assert not any(result["healthy"] for result in results)
    assert all(result["detail"] and result["duration_s"] >= 0 for result in results)
    for secret in ("token-that-is-secret", "secret-of-somebody", "password-of-prefect"):
        assert secret not in output.out + output.err


DESCRIPTION = "0123456789abcdef"
ONE_QUERY = ["--json", f"--description={DESCRIPTION}", "--unless-verified"]
WHOLE = Result("the whole contract", True, "", 1.0)


@pytest.fixture
def verified(stand_in: StandIn, clean_environment: pytest.MonkeyPatch, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """Return a platform that passed the contract for `DESCRIPTION` last, and whose API answers."""
    row = data.expected_rows()[GOLD_OHLCV_DAILY.full_name][0]
    names = [column.name for column in GOLD_OHLCV_DAILY.columns]
    content = {"columns": [{"name": name} for name in names], "rows": [[str(row[name]) for name in names]]}
    stand_in.answers["/v1/query"] = lambda: content
    stand_in.answers["/api/flow_runs/filter"] = lambda: [
        {"id": "1", "tags": ["verification", f"verified:{DESCRIPTION}"]}
    ]
    for name, value in {
        "LAKEHOUSE_API_URL": stand_in.url,
        "LAKEHOUSE_API_TOKEN": "t" * 20,
        "PREFECT_API_URL": f"{stand_in.url}/api",
    }.items():
        clean_environment.setenv(name, value)
    monkeypatch.setattr(verify, "verify", lambda *_: [WHOLE])
    monkeypatch.setattr(record, "record", lambda *_: None)
    return stand_in


def parts(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> list[str]:
    assert verify.main(arguments) == 0
    return [result["name"] for result in json.loads(capsys.readouterr().out)]


def test_one_query_is_enough_where_the_contract_was_passed_last(
    verified: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    assert parts(ONE_QUERY, capsys) == ["gold through API"]
    assert verified.requests == ["/api/flow_runs/filter", "/v1/query"]


@pytest.mark.parametrize("tags", [["verification"], ["verification", "verified:fedcba9876543210"]])
def test_the_whole_contract_runs_where_the_last_one_was_not_passed_for_this_description(
    verified: StandIn, capsys: pytest.CaptureFixture[str], tags: list[str]
) -> None:
    verified.answers["/api/flow_runs/filter"] = lambda: [{"id": "1", "tags": tags}]
    assert parts(ONE_QUERY, capsys) == [WHOLE.name]


def test_the_whole_contract_runs_where_none_was_passed_or_prefect_does_not_answer(
    verified: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    verified.answers["/api/flow_runs/filter"] = list
    assert parts(ONE_QUERY, capsys) == [WHOLE.name]
    verified.status = 500
    assert parts(ONE_QUERY, capsys) == [WHOLE.name]


def test_the_whole_contract_runs_where_the_query_has_another_answer(
    verified: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    verified.answers["/v1/query"] = lambda: {"columns": [{"name": "day"}], "rows": []}
    assert parts(ONE_QUERY, capsys) == [WHOLE.name]


def test_without_being_asked_for_less_the_whole_contract_runs(
    verified: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    assert parts(ONE_QUERY[:2], capsys) == [WHOLE.name]


@pytest.mark.parametrize(
    "arguments", [["--unless-verified"], ["--description=x"], ["--description=ABCDEF01"], ["--description="]]
)
def test_a_description_is_a_digest_and_needed_for_its_record(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        verify.main(arguments)
    assert "digest" in capsys.readouterr().err.lower()


def test_a_missing_setting_is_a_part_that_does_not_hold(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="LAKEHOUSE_TEXTFILE_DIR is not set"):
        monitoring.alert_is_delivered(services.settings_from({}), 1, Patience())


def test_duckdb_reads_with_the_keys_of_the_process_s_own_account(clean_environment: pytest.MonkeyPatch) -> None:
    for name, value in {"ACCESS_KEY_ID": "account", "SECRET_ACCESS_KEY": "secret", "SESSION_TOKEN": "token"}.items():
        clean_environment.setenv(f"AWS_{name}", value)
    with data._duckdb(Settings.from_environment()) as connection:
        (found,) = connection.execute("SELECT secret_string FROM duckdb_secrets()").fetchone()
    assert "key_id=account" in found
    assert "session_token=" in found
