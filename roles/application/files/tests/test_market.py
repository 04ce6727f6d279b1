# SPDX-License-Identifier: GPL-3.0-or-later
"""Candles are equal to those of their source, or an error states the reason."""

from __future__ import annotations

import hashlib
import io
import zipfile
from datetime import date, timedelta
from pathlib import Path

import httpx
import pytest

from crypto_lakehouse import market
from crypto_lakehouse.market import Archive, ArchiveUnreachableError, MarketDataError, NotPublishedError

DAY = date(2024, 5, 1)
TODAY = date(2024, 5, 2)
BASE = "https://archive.example"
FOLDER = "/data/spot/daily/klines/BTCUSDT/1h"
LINE = "1714521600000,60000.01,60500.00,59900.50,60400.00,12.5,1714525199999,752000.1,900,6.1,366000.5,0"


def zipped(text: str | bytes, names: tuple[str, ...] = ("BTCUSDT-1h.csv",)) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            # Without a fixed time the same text would have different bytes two seconds later.
            archive.writestr(zipfile.ZipInfo(name), text)
    return buffer.getvalue()


def published(day: date, content: bytes) -> dict[str, bytes]:
    """Return the archive's content for one day, by path."""
    name = f"BTCUSDT-1h-{day.isoformat()}.zip"
    checksum = f"{hashlib.sha256(content).hexdigest()}  {name}\n".encode()
    return {f"{FOLDER}/{name}": content, f"{FOLDER}/{name}.CHECKSUM": checksum}


def archive(files: dict[str, bytes], status: int = 404) -> Archive:
    def answer(request: httpx.Request) -> httpx.Response:
        content = files.get(request.url.path)
        return httpx.Response(status) if content is None else httpx.Response(200, content=content)

    return Archive(httpx.Client(transport=httpx.MockTransport(answer)), BASE)


def unreachable() -> Archive:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("no route to host")

    return Archive(httpx.Client(transport=httpx.MockTransport(refuse)), BASE)


def test_a_changed_download_is_refused() -> None:
    files = published(DAY, zipped(LINE))
    files[f"{FOLDER}/BTCUSDT-1h-{DAY}.zip"] += b"x"
    with pytest.raises(MarketDataError, match="does not have the published checksum"):
        archive(files).fetch("BTCUSDT", "1h", DAY)


@pytest.mark.parametrize("text", ["", "not a checksum", f"{'a' * 64}  ANOTHER-1h-{DAY}.zip", f"{'a' * 63}  x"])
def test_a_checksum_file_that_is_not_one_of_the_file_is_refused(text: str) -> None:
    files = published(DAY, zipped(LINE))
    files[f"{FOLDER}/BTCUSDT-1h-{DAY}.zip.CHECKSUM"] = text.encode()
    with pytest.raises(MarketDataError, match="not the checksum of that file"):
        archive(files).fetch("BTCUSDT", "1h", DAY)


def test_a_day_that_the_archive_lacks_is_not_published() -> None:
    with pytest.raises(NotPublishedError, match="2024-05-01"):
        archive({}).fetch("BTCUSDT", "1h", DAY)


@pytest.mark.parametrize("status", [403, 451, 500, 503])
def test_an_archive_that_refuses_or_fails_counts_as_unreachable(status: int) -> None:
    with pytest.raises(ArchiveUnreachableError, match=f"HTTP {status}"):
        archive({}, status).fetch("BTCUSDT", "1h", DAY)


def test_a_download_beyond_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(market, "MAX_DOWNLOAD_BYTES", 100)
    with pytest.raises(MarketDataError, match="larger than 100 bytes"):
        archive(published(DAY, zipped(LINE * 50))).fetch("BTCUSDT", "1h", DAY)


def test_a_zip_that_unpacks_beyond_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = archive(published(DAY, zipped(LINE))).fetch("BTCUSDT", "1h", DAY)
    monkeypatch.setattr(market, "MAX_UNPACKED_BYTES", 10)
    with pytest.raises(MarketDataError, match="at most 10 bytes"):
        raw.lines()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (zipped(LINE, ("a.csv", "b.csv")), "not a zip with one file"),
        (b"no zip", "cannot be unpacked"),
        (b"PK\x05\x06" + b"\0" * 18, "not a zip with one file"),
        (zipped(b"\xff"), "not a text file"),
    ],
)
def test_a_file_that_is_not_one_zipped_table_is_refused(content: bytes, message: str) -> None:
    raw = archive(published(DAY, content)).fetch("BTCUSDT", "1h", DAY)
    with pytest.raises(MarketDataError, match=message):
        raw.lines()


def test_a_fetched_day_carries_its_lines_as_they_came_and_where_they_came_from() -> None:
    content = zipped(f"{LINE}\n{LINE}\n")
    raw = archive(published(DAY, content)).fetch("BTCUSDT", "1h", DAY)
    assert raw.content == content
    assert raw.lines() == [LINE, LINE]
    assert raw.uri == f"{BASE}{FOLDER}/BTCUSDT-1h-2024-05-01.zip"
    assert raw.source == "archive"
    assert str(raw.partition) == "binance/BTCUSDT/1h/2024-05-01"


def test_a_heading_is_no_candle() -> None:
    raw = archive(published(DAY, zipped(f"open_time,open,high\n{LINE}\n"))).fetch("BTCUSDT", "1h", DAY)
    assert raw.lines() == [LINE]


def test_another_content_of_the_same_day_gets_another_key() -> None:
    one, other = (
        archive(published(DAY, zipped(text))).fetch("BTCUSDT", "1h", DAY).object_key for text in (LINE, LINE * 2)
    )
    assert one != other
    assert one.startswith("raw/klines/binance/BTCUSDT/1h/2024-05-01/")


@pytest.mark.parametrize("symbol", ["", "B", "btcusdt", "BTC/USDT", "../../x", "A" * 21, "BTC USDT"])
def test_a_symbol_that_no_exchange_has_never_becomes_an_address(symbol: str) -> None:
    with pytest.raises(ValueError, match="capital letters"):
        unreachable().fetch(symbol, "1h", DAY)


def test_an_unknown_interval_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="not one of 1m, 3m"):
        unreachable().fetch("BTCUSDT", "7m", DAY)


@pytest.mark.parametrize("age", [1, 2, 3])
def test_the_newest_day_is_the_youngest_published_one(age: int) -> None:
    day = TODAY - timedelta(days=age)
    assert archive(published(day, zipped(LINE))).newest_day("BTCUSDT", "1h", TODAY) == day


def test_an_archive_without_recent_days_is_not_taken_for_unreachable() -> None:
    with pytest.raises(NotPublishedError, match="last 3 days"):
        market.select(archive({}), "BTCUSDT", "1h", None, 1, TODAY)


def test_a_scheduled_run_takes_the_newest_days_of_the_archive() -> None:
    found = market.select(archive(published(DAY, zipped(LINE))), "BTCUSDT", "1h", None, 3, TODAY)
    assert (found.source, found.symbol) == ("archive", "BTCUSDT")
    assert found.days == (DAY - timedelta(days=2), DAY - timedelta(days=1), DAY)


def test_without_the_archive_a_scheduled_run_takes_the_sample_under_its_own_name() -> None:
    found = market.select(unreachable(), "BTCUSDT", "1m", None, 2, TODAY)
    assert (found.source, found.symbol, found.kline_interval) == ("sample", "BTCUSD", "1h")
    assert found.days == (date(2019, 9, 29), date(2019, 9, 30))
    assert "no route to host" in found.reason


def test_a_day_that_was_asked_for_is_never_replaced_by_the_sample() -> None:
    found = market.select(unreachable(), "BTCUSDT", "1h", DAY, 1, TODAY)
    with pytest.raises(ArchiveUnreachableError):
        unreachable().fetch(found.symbol, found.kline_interval, found.days[0])


@pytest.mark.parametrize(("last", "days"), [(None, market.SCHEDULED_DAYS), (date(2019, 8, 10), 1)])
def test_without_a_number_of_days_a_given_day_is_loaded_alone(last: date | None, days: int) -> None:
    found = market.select(unreachable(), "BTCUSD", "1h", last, None, TODAY)
    assert len(found.days) == days


def test_the_sample_market_needs_no_archive() -> None:
    found = market.select(unreachable(), "BTCUSD", "1h", date(2019, 8, 1), 1, TODAY)
    assert (found.source, found.days) == ("sample", (date(2019, 8, 1),))


@pytest.mark.parametrize(
    ("interval", "day", "days", "message"),
    [
        ("5m", None, 1, "by 1h, not by 5m"),
        ("1h", date(2019, 10, 1), 1, "2019-07-01 to 2019-09-30"),
        ("1h", date(2019, 6, 30), 1, "2019-07-01 to 2019-09-30"),
        ("1h", None, 0, "not between 1 and 366"),
        ("1h", None, 367, "not between 1 and 366"),
    ],
)
def test_what_the_sample_does_not_hold_is_refused(interval: str, day: date | None, days: int, message: str) -> None:
    with pytest.raises((NotPublishedError, ValueError), match=message):
        market.select(unreachable(), "BTCUSD", interval, day, days, TODAY)


def test_the_sample_ends_where_its_days_end() -> None:
    assert market.sample_days(5, date(2019, 7, 2)) == [date(2019, 7, 1), date(2019, 7, 2)]


def test_every_day_of_the_sample_has_its_24_candles() -> None:
    for day in market.days_until(market.SAMPLE_LAST_DAY, 92):
        raw = market.sample_file(day)
        assert len(raw.lines()) == 24
        assert raw.source == "sample"


def test_a_sample_that_was_changed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(market, "SAMPLE_SHA256", "0" * 64)
    market._sample_lines.cache_clear()
    with pytest.raises(MarketDataError, match="was changed"):
        market.sample_file(market.SAMPLE_LAST_DAY)
    market._sample_lines.cache_clear()


def test_the_page_about_the_sample_names_its_checksum() -> None:
    page = Path(market.__file__).parent / "sample" / "SOURCE.md"
    assert market.SAMPLE_SHA256 in page.read_text()


def test_proxies_and_certificates_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    with market.archive_client() as client, pytest.raises(ArchiveUnreachableError, match="BTCUSDT-1h"):
        Archive(client, BASE).fetch("BTCUSDT", "1h", DAY)
