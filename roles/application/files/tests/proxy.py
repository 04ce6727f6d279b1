# SPDX-License-Identifier: GPL-3.0-or-later
"""A TCP proxy for tests that drops, delays, refuses and alters the traffic between a client and a server."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

Alter = Callable[[bytes], bytes]


@dataclass
class Faults:
    """Faults of the connections of a proxy.

    drop_after: bytes of answers after which a connection breaks. drops: number of connections that break. delay_s:
    before each block of an answer. drip_s: between the bytes of an answer. refuse: whether to close connections
    immediately. request, response: alter a block.
    """

    url: str
    drop_after: int = 0
    drops: int = 0
    delay_s: float = 0.0
    drip_s: float = 0.0
    refuse: bool = False
    request: Alter | None = None
    response: Alter | None = None
    connections: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take_drop(self) -> bool:
        """Return whether this connection breaks."""
        with self.lock:
            self.drops -= 1
            return self.drops >= 0


@contextmanager
def proxy(target: str) -> Iterator[Faults]:
    """Forward connections to `target` on a free port of the loopback address while the block runs."""
    address = urlsplit(target)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        faults = Faults(f"http://127.0.0.1:{listener.getsockname()[1]}")
        arguments = (listener, (str(address.hostname), int(address.port or 80)), faults)
        threading.Thread(target=_accept, args=arguments, daemon=True).start()
        yield faults
        listener.shutdown(socket.SHUT_RDWR)


def _accept(listener: socket.socket, target: tuple[str, int], faults: Faults) -> None:
    while True:
        try:
            client, _address = listener.accept()
        except OSError:
            return
        faults.connections += 1
        if faults.refuse:
            client.close()
            continue
        server = socket.create_connection(target)
        threading.Thread(target=_forward, args=(client, server, faults, True), daemon=True).start()
        threading.Thread(target=_forward, args=(server, client, faults, False), daemon=True).start()


def _drip(sink: socket.socket, block: bytes, wait_s: float) -> None:
    for byte in block:
        sink.sendall(bytes([byte]))
        time.sleep(wait_s)


def _forward(source: socket.socket, sink: socket.socket, faults: Faults, is_request: bool) -> None:
    passed = 0
    with suppress(OSError):
        while block := source.recv(1 << 16):
            alter = faults.request if is_request else faults.response
            if not is_request:
                time.sleep(faults.delay_s)
                passed += len(block)
                if faults.drop_after and passed > faults.drop_after and faults.take_drop():
                    break
                if faults.drip_s:
                    _drip(sink, block, faults.drip_s)
                    continue
            sink.sendall(alter(block) if alter else block)
    for each in (source, sink):
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
            each.close()
