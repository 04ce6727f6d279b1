# SPDX-License-Identifier: GPL-3.0-or-later
"""Raw candles, from an exchange's public archive, or from the real sample of this package.

The archive is Binance's (https://github.com/binance/binance-public-data): a zip for each symbol,
interval and UTC day, with one CSV file in it, and a `.CHECKSUM` file beside it.
"""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Final, Literal

from crypto_lakehouse.tables import Partition

if TYPE_CHECKING:
    import httpx

Source = Literal["archive", "sample"]

INTERVALS: Final[dict[str, timedelta]] = {
    "1m": timedelta(minutes=1),
    "3m": timedelta(minutes=3),
    "5m": timedelta(minutes=5),
    "15m": timedelta(minutes=15),
    "30m": timedelta(minutes=30),
    "1h": timedelta(hours=1),
    "2h": timedelta(hours=2),
    "4h": timedelta(hours=4),
    "6h": timedelta(hours=6),
    "8h": timedelta(hours=8),
    "12h": timedelta(hours=12),
    "1d": timedelta(days=1),
}
"""Lengths of a candle that the archive offers and that divide a day."""

ARCHIVE_EXCHANGE: Final = "binance"

SAMPLE_EXCHANGE: Final = "coinbase"
SAMPLE_SYMBOL: Final = "BTCUSD"
SAMPLE_INTERVAL: Final = "1h"
SAMPLE_FIRST_DAY: Final = date(2019, 7, 1)
SAMPLE_LAST_DAY: Final = date(2019, 9, 30)
SAMPLE_SHA256: Final = "ee3912dbc114ee22268b683d7afa60694a116bd31bd659abbf83a359d5c4356f"

PUBLICATION_DELAY_DAYS: Final = 3
"""Number of days back in which the newest file of the archive is searched."""

SCHEDULED_DAYS: Final = 3
"""Days that a run without a day loads: the next run loads days on which the machine was off."""

MAX_DAYS: Final = 366
MAX_DOWNLOAD_BYTES: Final = 64 * 1024 * 1024
MAX_UNPACKED_BYTES: Final = 256 * 1024 * 1024

_SYMBOL = re.compile(r"[A-Z0-9]{2,20}")
_CHECKSUM = re.compile(r"(?P<sha256>[0-9a-f]{64})\s+\*?(?P<name>\S+)")


class MarketDataError(RuntimeError):
    """The candles are unavailable, or differ from those that the exchange published."""


class ArchiveUnreachableError(MarketDataError):
    """The archive's address does not answer, or the archive reports an internal error."""


class NotPublishedError(MarketDataError):
    """The archive does not have candles of that symbol, interval and day."""


@dataclass(frozen=True, slots=True)
class RawFile:
    """One file of candles, with its original bytes."""

    partition: Partition
    source: Source
    uri: str
    suffix: str
    content: bytes = field(repr=False)

    @property
    def sha256(self) -> str:
        """SHA-256 of the content, in hexadecimal."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def object_key(self) -> str:
        """Key of the raw object: it contains the content's hash, so that another content is another object."""
        return f"{raw_folder(self.partition)}{self.sha256}{self.suffix}"

    def lines(self) -> list[str]:
        """Return the lines of the CSV file, without a heading.

        Raises:
            MarketDataError: when the file cannot be unpacked or is not text.
        """
        data = self.content if self.suffix == ".csv" else _unpack(self.content, self.uri)
        try:
            lines = data.decode("utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise MarketDataError(f"{self.uri}: not a text file ({error.reason})") from error
        return lines[1:] if lines and lines[0].startswith("open_time") else lines


def raw_folder(partition: Partition) -> str:
    """Return the prefix of the keys of a partition's raw objects, with the slash at its end."""
    return f"raw/klines/{partition}/"


def check_request(symbol: str, kline_interval: str) -> None:
    """Reject values that exchanges do not have, before they become part of an address or a key.

    Raises:
        ValueError: naming the parameter and its valid values.
    """
    if not _SYMBOL.fullmatch(symbol):
        raise ValueError(f"symbol {symbol!r} is not 2 to 20 capital letters and digits, like BTCUSDT")
    if kline_interval not in INTERVALS:
        raise ValueError(f"kline_interval {kline_interval!r} is not one of {', '.join(INTERVALS)}")


def sample_days(days: int, last: date = SAMPLE_LAST_DAY) -> list[date]:
    """Return the `days` days of the sample that end with `last`, oldest first.

    Raises:
        NotPublishedError: when the sample does not hold `last`.
    """
    if not SAMPLE_FIRST_DAY <= last <= SAMPLE_LAST_DAY:
        raise NotPublishedError(
            f"the sample holds {SAMPLE_SYMBOL} from {SAMPLE_FIRST_DAY} to {SAMPLE_LAST_DAY}, not {last}"
        )
    return [day for day in days_until(last, days) if day >= SAMPLE_FIRST_DAY]


def sample_file(day: date) -> RawFile:
    """Return the candles of one day of the sample.

    Raises:
        NotPublishedError: when the sample does not hold the day.
        MarketDataError: when the sample is not the file that this version was released with.
    """
    sample_days(1, day)
    start_ms = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1000
    end_ms = start_ms + 86_400_000
    heading, *lines = _sample_lines()
    chosen = [line for line in lines if start_ms <= int(line.split(",", 1)[0]) < end_ms]
    return RawFile(
        partition=Partition(SAMPLE_EXCHANGE, SAMPLE_SYMBOL, SAMPLE_INTERVAL, day),
        source="sample",
        uri=f"package:crypto_lakehouse/sample/{SAMPLE_SYMBOL}-{SAMPLE_INTERVAL}.csv",
        suffix=".csv",
        content="".join(f"{line}\n" for line in (heading, *chosen)).encode(),
    )


@dataclass(frozen=True, slots=True)
class Selection:
    """Data that a run will load: the days of one market, and their source. `reason` says why it is the sample."""

    source: Source
    symbol: str
    kline_interval: str
    days: tuple[date, ...]
    reason: str = ""


def select(
    archive: Archive, symbol: str, kline_interval: str, last: date | None, days: int | None, today: date
) -> Selection:
    """Select the data to load: `days` days that end with `last`.

    Without `days`, that is one day where `last` is given, and `SCHEDULED_DAYS` where it is not.

    The sample's own market is always read from the sample. Any other comes from the archive. When no day was
    requested (a scheduled run) and the archive cannot be reached, the sample is loaded instead, under its own
    exchange and symbol, so that it is not mistaken for the requested market.

    Raises:
        ValueError: when symbol, interval or number of days is not valid for any exchange.
        MarketDataError: when the requested data is unavailable.
    """
    check_request(symbol, kline_interval)
    days = days if days is not None else 1 if last else SCHEDULED_DAYS
    if not 1 <= days <= MAX_DAYS:
        raise ValueError(f"days {days} is not between 1 and {MAX_DAYS}")
    if symbol == SAMPLE_SYMBOL:
        if kline_interval != SAMPLE_INTERVAL:
            raise NotPublishedError(f"the sample holds {SAMPLE_SYMBOL} by {SAMPLE_INTERVAL}, not by {kline_interval}")
        return _sample(days, last or SAMPLE_LAST_DAY, f"{SAMPLE_SYMBOL} is the sample's market")
    if last is None:
        try:
            last = archive.newest_day(symbol, kline_interval, today)
        except ArchiveUnreachableError as error:
            return _sample(days, SAMPLE_LAST_DAY, str(error))
    return Selection("archive", symbol, kline_interval, tuple(days_until(last, days)))


def _sample(days: int, last: date, reason: str) -> Selection:
    return Selection("sample", SAMPLE_SYMBOL, SAMPLE_INTERVAL, tuple(sample_days(days, last)), reason)


@dataclass(frozen=True, slots=True)
class Archive:
    """An exchange's public archive; `client` provides time limits, proxies and certificates."""

    client: httpx.Client
    base_url: str

    def fetch(self, symbol: str, kline_interval: str, day: date) -> RawFile:
        """Download one day and verify it against the published checksum.

        Raises:
            ArchiveUnreachableError: when the server does not answer or has an internal error.
            NotPublishedError: when the archive does not have the day.
            MarketDataError: when the content does not match the checksum.
        """
        promised = self.published_sha256(symbol, kline_interval, day)
        uri = self.uri(symbol, kline_interval, day)
        content = self._get(uri)
        if hashlib.sha256(content).hexdigest() != promised:
            raise MarketDataError(f"{uri}: the content does not have the published checksum {promised}")
        return RawFile(Partition(ARCHIVE_EXCHANGE, symbol, kline_interval, day), "archive", uri, ".zip", content)

    def newest_day(self, symbol: str, kline_interval: str, today: date) -> date:
        """Return the newest day that is published, at most `PUBLICATION_DELAY_DAYS` before `today`.

        Raises:
            ArchiveUnreachableError: when the server does not answer or has an internal error.
            NotPublishedError: when none of these days is published.
        """
        for age in range(1, PUBLICATION_DELAY_DAYS + 1):
            day = today - timedelta(days=age)
            try:
                self.published_sha256(symbol, kline_interval, day)
            except NotPublishedError:
                continue
            return day
        raise NotPublishedError(
            f"{self.base_url} has no {kline_interval} candles of {symbol} of the last {PUBLICATION_DELAY_DAYS} days"
        )

    def published_sha256(self, symbol: str, kline_interval: str, day: date) -> str:
        """Return the checksum that the archive publishes beside the day's file.

        Raises:
            ArchiveUnreachableError: when the server does not answer or has an internal error.
            NotPublishedError: when the archive does not have the day.
            MarketDataError: when the checksum file is not one, or is that of another file.
        """
        uri = self.uri(symbol, kline_interval, day)
        match = _CHECKSUM.fullmatch(self._get(f"{uri}.CHECKSUM").decode("ascii", "replace").strip())
        if match is None or match["name"] != uri.rsplit("/", 1)[1]:
            raise MarketDataError(f"{uri}.CHECKSUM: not the checksum of that file")
        return match["sha256"]

    def uri(self, symbol: str, kline_interval: str, day: date) -> str:
        """Return the address of the day's file."""
        check_request(symbol, kline_interval)
        name = f"{symbol}-{kline_interval}-{day.isoformat()}.zip"
        return f"{self.base_url.rstrip('/')}/data/spot/daily/klines/{symbol}/{kline_interval}/{name}"

    def _get(self, uri: str) -> bytes:
        import httpx

        try:
            with self.client.stream("GET", uri) as response:
                if response.status_code == 404:
                    raise NotPublishedError(f"{uri}: not published")
                if response.status_code != 200:
                    raise ArchiveUnreachableError(f"{uri}: HTTP {response.status_code}")
                return _read_bounded(response.iter_bytes(), uri)
        except httpx.TransportError as error:
            raise ArchiveUnreachableError(f"{uri}: {type(error).__name__}: {error}") from error


def archive_client() -> httpx.Client:
    """Return a client for an archive: short time limits; proxies and certificates from the environment."""
    import httpx

    return httpx.Client(timeout=httpx.Timeout(15.0, connect=4.0), follow_redirects=True)


def _read_bounded(chunks: Iterable[bytes], uri: str) -> bytes:
    content = bytearray()
    for chunk in chunks:
        content += chunk
        if len(content) > MAX_DOWNLOAD_BYTES:
            raise MarketDataError(f"{uri}: larger than {MAX_DOWNLOAD_BYTES} bytes")
    return bytes(content)


def _unpack(content: bytes, uri: str) -> bytes:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            if len(members) != 1 or members[0].file_size > MAX_UNPACKED_BYTES:
                raise MarketDataError(f"{uri}: not a zip with one file of at most {MAX_UNPACKED_BYTES} bytes")
            return archive.read(members[0])
    # RuntimeError: a password is required, or the compression is not supported.
    except (zipfile.BadZipFile, RuntimeError) as error:
        if isinstance(error, MarketDataError):
            raise
        raise MarketDataError(f"{uri}: cannot be unpacked ({error})") from error


@lru_cache(maxsize=1)
def _sample_lines() -> tuple[str, ...]:
    name = f"{SAMPLE_SYMBOL}-{SAMPLE_INTERVAL}.csv"
    content = files("crypto_lakehouse").joinpath("sample", name).read_bytes()
    if hashlib.sha256(content).hexdigest() != SAMPLE_SHA256:
        raise MarketDataError(f"the packaged sample {name} was changed: its checksum is not {SAMPLE_SHA256}")
    return tuple(content.decode("ascii").splitlines())


def days_until(last: date, days: int) -> list[date]:
    """Return the `days` days that end with `last`, oldest first."""
    return [last - timedelta(days=age) for age in reversed(range(days))]
