# SPDX-License-Identifier: GPL-3.0-or-later
"""Avro files of Iceberg (manifest lists and manifests), read and rewritten without loss.

Values follow the schema that the file carries, so fields that this release does not know survive a rewrite; pyiceberg's
reader drops those. fastavro turns dates, times, decimals and UUIDs into objects of Python, which cannot be switched
off, and a partition is printed and written from the stored number. For snappy and zstandard it needs two more packages.
Source: Avro 1.11 specification, "Object Container Files" and "Binary encoding".
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from crypto_lakehouse.backup.errors import IntegrityError

MAGIC: Final = b"Obj\x01"
SYNC_BYTES: Final = 16
BLOCK_RECORDS: Final = 1_000

Schema = Any
_Read = Callable[["_Cursor"], Any]
_Write = Callable[[bytearray, Any], None]


@dataclass(frozen=True, slots=True)
class AvroFile:
    """Records of an Avro file. header: its metadata, `avro.schema` included."""

    header: Mapping[str, bytes]
    records: Sequence[dict[str, Any]]

    def text(self, name: str) -> str:
        """Return a field of the header as text, empty where it is missing."""
        return self.header.get(name, b"").decode()


@dataclass(slots=True)
class _Cursor:
    data: bytes
    at: int = 0

    def take(self, count: int) -> bytes:
        end = self.at + count
        if count < 0 or end > len(self.data):
            raise ValueError("unexpected end")
        found = self.data[self.at : end]
        self.at = end
        return found

    def long(self) -> int:
        data, at, value, shift = self.data, self.at, 0, 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
        self.at = at
        return (value >> 1) ^ -(value & 1)


# Damaged snappy and zstandard are errors of input and output, and a damaged length one of memory.
_DAMAGED: Final = (
    ArithmeticError,
    IndexError,
    KeyError,
    MemoryError,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)


def decode(content: bytes, name: str) -> AvroFile:
    """Return the records of an Avro file.

    name: what an error calls the file.

    Raises:
        IntegrityError: where the content is damaged, or compressed in a way that is not supported.
    """
    try:
        return _decode(content)
    except _DAMAGED as error:
        raise IntegrityError(f"cannot read {name}: it is not an intact Avro file ({error})") from None


def _decode(content: bytes) -> AvroFile:
    cursor = _Cursor(content)
    if cursor.take(len(MAGIC)) != MAGIC:
        raise ValueError("wrong magic bytes")
    header = dict(_read_blocks(cursor, lambda inner: (inner.take(inner.long()).decode(), inner.take(inner.long()))))
    sync = cursor.take(SYNC_BYTES)
    read = _reader(json.loads(header["avro.schema"]), {})
    codec = header.get("avro.codec", b"null").decode()
    records: list[dict[str, Any]] = []
    while cursor.at < len(content):
        count = cursor.long()
        block = _Cursor(_decompress(codec, cursor.take(cursor.long())))
        records += [read(block) for _number in range(count)]
        if block.at != len(block.data) or cursor.take(SYNC_BYTES) != sync:
            raise ValueError("damaged block")
    return AvroFile(header, records)


def encode(file: AvroFile) -> bytes:
    """Return the content of an Avro file with the same schema and header, compressed with deflate."""
    output = bytearray(MAGIC)
    header = {**file.header, "avro.codec": b"deflate"}
    _write_long(output, len(header))
    for name, value in header.items():
        _write_bytes(output, name.encode())
        _write_bytes(output, value)
    # The marker only has to be improbable in the data: no randomness, so that equal input gives equal output.
    sync = zlib.crc32(file.header["avro.schema"]).to_bytes(4, "big") * 4
    output += b"\0" + sync
    write = _writer(json.loads(file.header["avro.schema"]), {})
    for start in range(0, len(file.records), BLOCK_RECORDS):
        _write_block(output, write, file.records[start : start + BLOCK_RECORDS], sync)
    return bytes(output)


def _write_block(output: bytearray, write: _Write, records: Sequence[Any], sync: bytes) -> None:
    plain = bytearray()
    for record in records:
        write(plain, record)
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    _write_long(output, len(records))
    _write_bytes(output, compressor.compress(bytes(plain)) + compressor.flush())
    output += sync


def _decompress(codec: str, block: bytes) -> bytes:
    if codec == "null":
        return block
    if codec == "deflate":
        return zlib.decompress(block, wbits=-zlib.MAX_WBITS)
    if codec == "snappy":
        import pyarrow as pa

        # The block begins with its length as a base-128 number, and ends with a checksum of four bytes.
        length = sum((byte & 0x7F) << 7 * place for place, byte in enumerate(_base128(block)))
        return bytes(pa.decompress(block[:-4], decompressed_size=length, codec="snappy", asbytes=True))
    if codec == "zstandard":
        import pyarrow as pa

        return bytes(pa.CompressedInputStream(pa.BufferReader(block), "zstd").read())
    raise ValueError(f"compression {codec} is not supported")


def _base128(block: bytes) -> bytes:
    for place, byte in enumerate(block, start=1):
        if byte < 0x80:
            return block[:place]
    raise ValueError("unexpected end")


def _read_blocks(cursor: _Cursor, item: _Read) -> list[Any]:
    items: list[Any] = []
    while count := cursor.long():
        if count < 0:
            count = -count
            cursor.long()
        items += [item(cursor) for _number in range(count)]
    return items


_READ_PRIMITIVE: Final[Mapping[str, _Read]] = {
    "null": lambda _cursor: None,
    "boolean": lambda cursor: cursor.take(1) != b"\0",
    "int": _Cursor.long,
    "long": _Cursor.long,
    "float": lambda cursor: struct.unpack("<f", cursor.take(4))[0],
    "double": lambda cursor: struct.unpack("<d", cursor.take(8))[0],
    "bytes": lambda cursor: cursor.take(cursor.long()),
    "string": lambda cursor: cursor.take(cursor.long()).decode(),
}


def _reader(schema: Schema, names: dict[str, _Read]) -> _Read:
    """Return a function that reads values of the schema; `names` contains the readers of named types."""
    if isinstance(schema, list):
        branches = [_reader(branch, names) for branch in schema]
        return lambda cursor: branches[cursor.long()](cursor)
    if isinstance(schema, str):
        return _READ_PRIMITIVE[schema] if schema in _READ_PRIMITIVE else names[schema]
    kind = schema["type"]
    if kind == "record":
        return _record_reader(schema, names)
    if kind == "array":
        item = _reader(schema["items"], names)
        return lambda cursor: _read_blocks(cursor, item)
    if kind == "map":
        value = _reader(schema["values"], names)
        return lambda cursor: dict(
            _read_blocks(cursor, lambda inner: (inner.take(inner.long()).decode(), value(inner)))
        )
    if kind == "fixed":
        size = int(schema["size"])
        names[schema["name"]] = lambda cursor: cursor.take(size)
        return names[schema["name"]]
    return _reader(kind, names)


def _record_reader(schema: Schema, names: dict[str, _Read]) -> _Read:
    fields: list[tuple[str, _Read]] = []

    def read(cursor: _Cursor) -> dict[str, Any]:
        return {name: field(cursor) for name, field in fields}

    names[schema["name"]] = read
    fields += [(field["name"], _reader(field["type"], names)) for field in schema["fields"]]
    return read


def _write_long(output: bytearray, value: int) -> None:
    number = (value << 1) ^ (value >> 63)
    while number > 0x7F:
        output.append(number & 0x7F | 0x80)
        number >>= 7
    output.append(number)


def _write_bytes(output: bytearray, value: bytes) -> None:
    _write_long(output, len(value))
    output += value


def _write_blocks(output: bytearray, items: Sequence[Any], write: _Write) -> None:
    if items:
        _write_long(output, len(items))
        for item in items:
            write(output, item)
    output.append(0)


_WRITE_PRIMITIVE: Final[Mapping[str, _Write]] = {
    "null": lambda _output, _value: None,
    "boolean": lambda output, value: output.append(bool(value)),
    "int": _write_long,
    "long": _write_long,
    "float": lambda output, value: output.extend(struct.pack("<f", value)),
    "double": lambda output, value: output.extend(struct.pack("<d", value)),
    "bytes": _write_bytes,
    "string": lambda output, value: _write_bytes(output, value.encode()),
}


def _writer(schema: Schema, names: dict[str, _Write]) -> _Write:
    """Return a function that writes values of the schema; `names` contains the writers of named types."""
    if isinstance(schema, list):
        return _optional_writer(schema, names)
    if isinstance(schema, str):
        if schema in _WRITE_PRIMITIVE:
            return _WRITE_PRIMITIVE[schema]
        return names[schema]
    kind = schema["type"]
    if kind == "record":
        return _record_writer(schema, names)
    if kind == "array":
        item = _writer(schema["items"], names)
        return lambda output, value: _write_blocks(output, value, item)
    if kind == "map":
        entry = _pair_writer(_writer(schema["values"], names))
        return lambda output, value: _write_blocks(output, list(value.items()), entry)
    if kind == "fixed":
        names[schema["name"]] = lambda output, value: output.extend(value)
        return names[schema["name"]]
    return _writer(kind, names)


def _pair_writer(write: _Write) -> _Write:
    def pair(output: bytearray, value: tuple[str, Any]) -> None:
        _write_bytes(output, value[0].encode())
        write(output, value[1])

    return pair


def _optional_writer(schema: Sequence[Schema], names: dict[str, _Write]) -> _Write:
    writers = [(branch == "null", _writer(branch, names)) for branch in schema]
    if sum(not is_null for is_null, _write in writers) != 1:
        raise ValueError("a union of several types is not supported")

    def write(output: bytearray, value: Any) -> None:
        place = next(place for place, (is_null, _write) in enumerate(writers) if is_null is (value is None))
        _write_long(output, place)
        writers[place][1](output, value)

    return write


def _record_writer(schema: Schema, names: dict[str, _Write]) -> _Write:
    fields: list[tuple[str, _Write]] = []

    def write(output: bytearray, value: Mapping[str, Any]) -> None:
        for name, field in fields:
            field(output, value[name])

    names[schema["name"]] = write
    fields += [(field["name"], _writer(field["type"], names)) for field in schema["fields"]]
    return write


def replace(file: AvroFile, records: Iterable[dict[str, Any]]) -> AvroFile:
    """Return the file with other records."""
    return AvroFile(file.header, list(records))
