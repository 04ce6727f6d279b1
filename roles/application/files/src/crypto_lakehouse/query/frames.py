# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages between parent and child: frames of a length in four bytes and a JSON document or raw bytes."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any, BinaryIO, Final

HEADER: Final = struct.Struct(">I")


class FrameError(Exception):
    """The other side closed the channel or broke the protocol."""


def pack(payload: bytes) -> bytes:
    """Return the frame of `payload`."""
    return HEADER.pack(len(payload)) + payload


def pack_message(message: Mapping[str, Any]) -> bytes:
    """Return the frame of `message` as JSON."""
    return pack(json.dumps(message).encode())


def write_frame(stream: BinaryIO, payload: bytes) -> None:
    """Write one complete frame."""
    stream.write(pack(payload))
    stream.flush()


def read_message(stream: BinaryIO) -> dict[str, Any]:
    """Read one frame that holds a JSON object.

    Raises:
        FrameError: when the channel ends within the frame, or the content is not a JSON object.
    """
    header = _read_exactly(stream, HEADER.size)
    return parse(_read_exactly(stream, HEADER.unpack(header)[0]))


def parse(payload: bytes) -> dict[str, Any]:
    """Return the JSON object in `payload`.

    Raises:
        FrameError: when it is not one.
    """
    try:
        message = json.loads(payload)
    except ValueError:
        raise FrameError("not JSON") from None
    if not isinstance(message, dict):
        raise FrameError("not a JSON object")
    return message


def _read_exactly(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) != size:
        raise FrameError("the channel is closed")
    return data
