# SPDX-License-Identifier: GPL-3.0-or-later
"""Every listener of a deployed lakehouse is described, and another user of the machine gets no data from any."""

from __future__ import annotations

import stat
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.listeners import holders, listeners
from ansible_collections.crypto_lakehouse.platform.tests.integration.deploy import attack
from ansible_collections.crypto_lakehouse.platform.tests.integration.deploy.described import (
    described_ports,
    described_services,
)
from ansible_collections.crypto_lakehouse.platform.tests.integration.deploy.lakehouse import (
    AS_ROOT,
    WAIT_TIMEOUT_S,
    Lakehouse,
    wait_for_health,
)
from tests.integration.patience import wait_for

KEPT = "the content of an object that no attack may touch"
# Rejections of a caller without credentials: a status, the end of the connection, or a demand for TLS.
REFUSED = {"401", "403", "TLS"}
ABSENT = {"404", "405"}
UNIX_LISTENS = "00010000"
PAGE_ORIGIN, OTHER_ORIGIN = "https://page.example", "https://other.example"


@dataclass(frozen=True)
class PageAnswer:
    """The answer that a browser gets for a page: the status, the origin that may read the answer, and the object."""

    status: int
    origin: str | None
    content: str


@dataclass(frozen=True)
class Found:
    """A listener of the lakehouse: its address, and the catalogue's description of the port, None without one."""

    address: str
    port: int
    described: Mapping[str, Any] | None

    def __str__(self) -> str:
        name = f"{self.described['service']}/{self.described['name']}" if self.described else "not described"
        return f"{self.address}:{self.port} ({name})"


def pids(lakehouse: Lakehouse) -> set[int]:
    return {*lakehouse.processes(), *lakehouse.supervisor_pids()}


def tcp_listeners(lakehouse: Lakehouse) -> list[Found]:
    """Return every TCP listener of the processes of a lakehouse."""
    every = {listener.inode: listener for listener in listeners()}
    programs, services = lakehouse.processes(), described_services(lakehouse)
    ports = {(port["address"], port["port"]): port for port in described_ports(lakehouse)}
    found = []
    for inode, pid in holders(every.keys(), pids(lakehouse)).items():
        address, number = every[inode].address, every[inode].port
        told = ports.get((address, number))
        if told is None and address == "127.0.0.1" and services[programs[pid]]["ephemeral_ports"]:
            told = {"service": programs[pid], "name": "ephemeral", "application_protocol": "private"}
        found.append(Found(address, number, told))
    return found


def socket_table(name: str) -> list[list[str]]:
    return [line.split() for line in Path("/proc/net", name).read_text().splitlines()[1:]]


def unix_listeners(lakehouse: Lakehouse) -> list[str]:
    """Return the path of every listening unix socket of a lakehouse; abstract ones begin with @."""
    paths = {
        int(words[6]): words[7] if len(words) > 7 else "" for words in socket_table("unix") if words[3] == UNIX_LISTENS
    }
    return sorted(paths[inode] for inode in holders(paths.keys(), pids(lakehouse)))


@pytest.fixture
def kept(lakehouse: Lakehouse) -> Iterator[Lakehouse]:
    """Return a lakehouse with a bucket that the attacks know by name, and an object in it."""
    put = f"s3.put_object(Bucket='scratch', Key='kept', Body={KEPT!r}.encode())"
    lakehouse.application(f"s3.create_bucket(Bucket='scratch')\n{put}\nshow(None)")
    yield lakehouse
    remove = "s3.delete_object(Bucket='scratch', Key='kept')\ns3.delete_bucket(Bucket='scratch')"
    lakehouse.application(f"{remove}\nshow(None)")


def test_every_listener_is_in_the_catalogue(lakehouse: Lakehouse) -> None:
    found = tcp_listeners(lakehouse)
    assert [str(one) for one in found if one.described is None] == []
    expected = {port["port"] for port in described_ports(lakehouse)}
    assert {one.port for one in found if one.described and one.described["name"] != "ephemeral"} == expected
    udp = {int(words[9]) for table in ("udp", "udp6") for words in socket_table(table)}
    assert holders(udp, pids(lakehouse)) == {}


def test_unix_sockets_are_closed_to_other_users(lakehouse: Lakehouse) -> None:
    paths = unix_listeners(lakehouse)
    # supervisord binds a temporary name and links it.
    assert any(path.startswith(str(lakehouse.home / "run/supervisor.sock")) for path in paths)
    for path in paths:
        assert path.startswith(("/proc/self/cwd/", f"{lakehouse.home}/")), f"{path} is not below the home"
    folders = (lakehouse.home / "run").rglob("*")
    below = [str(path) for path in folders if stat.S_ISSOCK(path.lstat().st_mode)]
    assert len(below) >= len(paths)
    for path in below:
        closed = [parent for parent in Path(path).parents if parent.is_relative_to(lakehouse.home / "run")]
        assert any(stat.S_IMODE(parent.stat().st_mode) == 0o700 for parent in closed), path
    if AS_ROOT:
        assert attack.as_nobody(lambda: [attack.opens(path) for path in below]) == ["PermissionError"] * len(below)


def test_another_user_gets_nothing_from_any_listener(kept: Lakehouse) -> None:
    before = kept.census()
    wrong: list[str] = []
    for found in tcp_listeners(kept):
        assert found.described is not None
        wrong += [f"{found}: {told}" for told in _found_open(found)]
    assert wrong == []
    assert kept.application("show(s3.get_object(Bucket='scratch', Key='kept')['Body'].read().decode())") == KEPT
    assert kept.census() == before
    wait_for_health(kept, wait_s=60.0)


def _found_open(found: Found) -> Iterator[str]:
    port = found.described or {}
    if port["application_protocol"] == "grpc":
        if _attacked(partial(attack.speaks_grpc, found.address, found.port)):
            yield "gRPC without a certificate"
    elif port["application_protocol"] == "private":
        told = _attacked(partial(attack.private_protocol_says, found.address, found.port))
        if told:
            yield f"it answers {told!r}"
    elif port["application_protocol"] == "postgresql":
        for user in ("postgres", "lakehouse", "orchestrator", "backup"):
            if _attacked(partial(attack.database_lets_in, found.address, found.port, user)):
                yield f"{user} gets in without a password"
    else:
        yield from _found_open_by_http(found, port)
        if port["service"] == "orchestrator":
            yield from _found_open_by_websocket(found)


def _found_open_by_http(found: Found, port: Mapping[str, Any]) -> Iterator[str]:
    paths = attack.KNOWN[port["service"]]
    answers = _attacked(lambda: list(attack.requests(found.address, found.port, paths)))
    refusals = 0
    for scheme, method, path, answer in answers:
        is_answer = answer.isdecimal()
        refusals += answer in REFUSED or not is_answer
        is_open = path.partition("?")[0] in port["open_paths"]
        if is_answer and answer not in {*REFUSED, *ABSENT} and not is_open:
            yield f"{method} {scheme} {path}: {answer}"
    if port["authenticated"] and not any(answer in REFUSED for *_request, answer in answers):
        yield f"nothing was refused ({refusals} of {len(answers)} had no answer)"


def _found_open_by_websocket(found: Found) -> Iterator[str]:
    for path in ("/api/events/in", "/api/events/out", "/api/logs/out", "/api/task_runs/subscriptions/scheduled"):
        for message in ('{"type":"auth","token":"guess"}', '{"type":"auth","token":null}', "{}"):
            if "auth_success" in _attacked(partial(attack.websocket_says, found.address, found.port, path, message)):
                yield f"websocket {path} takes {message}"


def _attacked(work: Any) -> Any:
    return attack.as_nobody(work) if AS_ROOT else work()


def test_pages_of_other_origins_read_objects_by_a_rule_of_the_bucket_alone(kept: Lakehouse) -> None:
    place = "Params={'Bucket': 'scratch', 'Key': 'kept'}"
    url = kept.application(f"show(s3.generate_presigned_url('get_object', {place}))")
    unruled = (_as_page(url, OTHER_ORIGIN), _as_page(url, OTHER_ORIGIN, preflight=True))
    rule = f"{{'AllowedOrigins': [{PAGE_ORIGIN!r}], 'AllowedMethods': ['GET']}}"
    put = f"s3.put_bucket_cors(Bucket='scratch', CORSConfiguration={{'CORSRules': [{rule}]}})"
    kept.application(f"{put}\nshow(None)")
    try:
        wait_for(lambda: _as_page(url, PAGE_ORIGIN).origin == PAGE_ORIGIN, "the rule of the bucket holds")
        ruled = (_as_page(url, OTHER_ORIGIN), _as_page(url, OTHER_ORIGIN, preflight=True))
        allowed = (_as_page(url, PAGE_ORIGIN), _as_page(url, PAGE_ORIGIN, preflight=True))
    finally:
        kept.application("s3.delete_bucket_cors(Bucket='scratch')\nshow(None)")
    # The signature is always valid: the browser decides by the header.
    assert unruled == ruled == (PageAnswer(200, None, KEPT), PageAnswer(403, None, ""))
    assert allowed == (PageAnswer(200, PAGE_ORIGIN, KEPT), PageAnswer(200, PAGE_ORIGIN, ""))


def _as_page(url: str, origin: str, *, preflight: bool = False) -> PageAnswer:
    """Send a request like a browser for a page of `origin`."""
    headers = {"Origin": origin, **({"Access-Control-Request-Method": "GET"} if preflight else {})}
    method = "OPTIONS" if preflight else "GET"
    request = urllib.request.Request(url, headers=headers, method=method)  # noqa: S310
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        answer = opener.open(request, timeout=WAIT_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        body = answer.read().decode() if answer.status == 200 else ""
        return PageAnswer(answer.status, answer.headers["Access-Control-Allow-Origin"], body)


def test_the_attacks_know_every_service_that_listens_for_http(lakehouse: Lakehouse) -> None:
    ports = described_ports(lakehouse)
    spoken = {port["service"] for port in ports if port["application_protocol"] in ("http", "https")}
    assert spoken <= attack.KNOWN.keys()
