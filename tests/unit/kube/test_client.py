# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests over real TLS connections: repeated and unrepeated ones, and error messages."""

from __future__ import annotations

import datetime as dt
import logging
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.client import (
    APPLY,
    MERGE,
    Client,
    Patience,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.config import connection
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.errors import (
    ApiError,
    ConfigError,
    UnreachableError,
)
from tests.integration.patience import stretched
from tests.unit.kube.authority import DAY, Authority
from tests.unit.kube.server import (
    CUT,
    DROPPED,
    HANG,
    IMPATIENT,
    OK,
    RESET,
    TOKEN,
    ApiServer,
    Reply,
    alert,
    slowly,
    status,
)

PATH = "/api/v1/namespaces/shop/configmaps/settings"
SETTINGS = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"a": "1"}}
BROKEN = status(500, "etcdserver: leader changed")
BUSY = status(503, "the server is currently unable to handle the request", "ServiceUnavailable", retry_after=0)
THROTTLED = status(429, "too many requests", "TooManyRequests", retry_after=0)
WEBHOOK = 'failed calling webhook "v.example": failed to call webhook: Post "https://v": connect: connection refused'


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ApiServer]:
    with ApiServer(tmp_path) as server:
        yield server


def apply(client: Client) -> object:
    return client.request("PATCH", PATH, body=SETTINGS, content_type=APPLY)


def refused(client: Client, method: str = "GET", path: str = PATH) -> ApiError:
    with pytest.raises(ApiError) as caught:
        client.request(method, path)
    return caught.value


def unreached(client: Client) -> str:
    with pytest.raises(UnreachableError) as caught:
        client.request("GET", PATH)
    return str(caught.value)


@pytest.mark.parametrize("fault", [DROPPED, RESET, CUT, BROKEN, BUSY, THROTTLED, status(502), status(504)])
@pytest.mark.parametrize(("method", "content_type"), [("GET", ""), ("DELETE", ""), ("PATCH", APPLY)])
def test_what_means_the_same_twice_is_sent_again(
    server: ApiServer, fault: Reply, method: str, content_type: str
) -> None:
    server.on("*", PATH, fault, fault, Reply(body=SETTINGS))
    client = server.client()
    body = SETTINGS if method == "PATCH" else None

    assert client.request("GET", "/version")["major"] == "1"
    assert client.request(method, PATH, body=body, content_type=content_type) == SETTINGS
    assert [request.body for request in server.requests[1:]] == [body] * 3
    assert client.calls == 4


@pytest.mark.parametrize("fault", [DROPPED, RESET, CUT, BROKEN, status(502), status(504)])
@pytest.mark.parametrize(("method", "content_type"), [("POST", "application/json"), ("PUT", ""), ("PATCH", MERGE)])
def test_what_may_have_happened_is_not_done_twice(
    server: ApiServer, fault: Reply, method: str, content_type: str
) -> None:
    server.on("*", PATH, fault, OK)
    client = server.client()

    with pytest.raises((UnreachableError, ApiError)) as caught:
        client.request(method, PATH, body=SETTINGS, content_type=content_type)
    assert len(server.requests) == 1
    assert not isinstance(caught.value, UnreachableError) or caught.value.sent


@pytest.mark.parametrize("reply", [THROTTLED, BUSY, status(500, WEBHOOK, "InternalError")])
def test_what_the_server_did_not_begin_is_always_sent_again(server: ApiServer, reply: Reply) -> None:
    server.on("POST", PATH, reply, reply, OK)

    answer = server.client().send("POST", PATH, body=SETTINGS)
    assert not answer.repeated
    assert len(server.requests) == 3


def test_whoever_knows_better_says_whether_to_repeat(server: ApiServer) -> None:
    server.on("*", PATH, DROPPED, OK)

    with pytest.raises(UnreachableError):
        server.client().request("GET", PATH, repeat=False)
    server.on("*", PATH, DROPPED, OK)
    server.client().request("POST", PATH, body={}, repeat=True)


@pytest.mark.parametrize(("fault", "repeated"), [(DROPPED, True), (BROKEN, True), (THROTTLED, False), (BUSY, False)])
def test_an_answer_tells_whether_an_earlier_sending_may_have_done_it(
    server: ApiServer, fault: Reply, repeated: bool
) -> None:
    server.on("PATCH", PATH, fault, Reply(201, SETTINGS))

    answer = server.client().send("PATCH", PATH, body=SETTINGS, content_type=APPLY)
    assert (answer.status, answer.repeated) == (201, repeated)


@pytest.mark.parametrize(("code", "attempts"), [(429, 10), (503, 10), (502, 10), (504, 10), (500, 6)])
def test_patience_ends(server: ApiServer, code: int, attempts: int) -> None:
    server.on("*", PATH, status(code, "no"))

    assert refused(server.client()).status == code
    assert len(server.requests) == attempts


@pytest.mark.parametrize("code", [400, 401, 403, 404, 405, 409, 410, 413, 415, 422, 501])
def test_what_was_refused_for_good_is_not_asked_again(server: ApiServer, code: int) -> None:
    server.on("*", PATH, status(code, "no"))

    assert refused(server.client()).status == code
    assert len(server.requests) == 1


def test_what_its_schema_does_not_allow_is_not_sent_again(server: ApiServer) -> None:
    message = (
        "failed to create typed patch object (shop/settings; /v1, Kind=ConfigMap): "
        ".data.a: expected string, got &value.valueUnstructured{Value:2}"
    )
    server.on("PATCH", PATH, status(500, message))

    with pytest.raises(ApiError, match=r"\.data\.a: expected string, got 2$") as caught:
        apply(server.client())
    assert caught.value.is_invalid
    assert len(server.requests) == 1


def test_a_pause_is_as_long_as_the_server_asks_and_no_longer_than_bearable(server: ApiServer) -> None:
    pauses: list[float] = []
    server.on("*", PATH, status(429, retry_after=2), status(429, retry_after=3600), status(429), OK)
    client = server.client(patience=Patience(longest_s=30, sleep=pauses.append))

    client.request("GET", PATH)
    assert 2.0 < pauses[0] <= 2.1
    assert pauses[1] == 30
    assert 0.2 <= pauses[2] <= 0.4


def test_retry_after_may_be_in_the_status_or_no_number_at_all(server: ApiServer) -> None:
    pauses: list[float] = []
    dated = Reply(429, status(429).body, (("Retry-After", "Wed, 21 Oct 2026 07:28:00 GMT"),))
    server.on("*", PATH, status(429, retryAfterSeconds=5), dated, OK)

    server.client(patience=Patience(sleep=pauses.append)).request("GET", PATH)
    assert 5.0 < pauses[0] <= 5.1
    assert pauses[1] < 1


@pytest.mark.parametrize("message", [WEBHOOK, "conversion webhook for x/v1, Kind=Y failed: Post: EOF"])
def test_a_webhook_has_time_to_come_up(server: ApiServer, message: str) -> None:
    down = status(500, message, "InternalError")
    server.on("PATCH", PATH, *[down] * 15, Reply(body=SETTINGS))

    assert apply(server.client(patience=Patience(first_s=0.001, longest_s=0.002))) == SETTINGS


def test_a_webhook_that_stays_down_is_named(server: ApiServer) -> None:
    server.on("PATCH", PATH, status(500, WEBHOOK, "InternalError"))

    patience = replace(IMPATIENT, webhook_s=stretched(0.2))
    with pytest.raises(ApiError, match=r'failed calling webhook "v.example"') as caught:
        apply(server.client(patience=patience))
    assert caught.value.is_webhook_down
    assert len(server.requests) > 1


def test_a_webhook_that_answers_nonsense_gets_no_time(server: ApiServer) -> None:
    message = 'failed calling webhook "v.example": received invalid webhook response: expected response.uid="1"'
    server.on("PATCH", PATH, status(500, message, "InternalError"))

    with pytest.raises(ApiError, match="received invalid webhook response"):
        apply(server.client())
    assert len(server.requests) == 1


def test_a_server_that_never_answered_is_given_up_soon() -> None:
    with pytest.raises(UnreachableError, match="nothing listens there; check that the cluster runs"):
        Client(connection({"host": "https://127.0.0.1:1", "api_key": TOKEN}), patience=IMPATIENT).request("GET", "/")


def test_a_name_that_nobody_knows_is_said_to_be_unknown() -> None:
    client = Client(connection({"host": "https://cluster.invalid", "api_key": TOKEN}), patience=IMPATIENT)
    assert "https://cluster.invalid: its name cannot be resolved" in unreached(client)


def test_a_server_that_answered_before_may_restart(tmp_path: Path) -> None:
    pauses: list[float] = []
    with ApiServer(tmp_path) as server:
        client = server.client(patience=Patience(sleep=pauses.append))
        client.request("GET", "/version")
        client.close()

    assert "nothing listens there" in unreached(client)
    assert len(pauses) == 9


def test_an_answer_that_does_not_come_is_given_up(server: ApiServer) -> None:
    server.on("POST", PATH, HANG)

    with pytest.raises(UnreachableError, match="no answer in time") as caught:
        server.client(timeout_s=0.1).request("POST", PATH, body={})
    assert caught.value.sent


def test_one_request_may_have_a_time_of_its_own(server: ApiServer) -> None:
    server.on("GET", PATH, slowly(Reply(body=SETTINGS), 0.3))

    assert server.client(timeout_s=0.1).request("GET", PATH, timeout_s=60) == SETTINGS


def test_wrong_authority(server: ApiServer, tmp_path: Path) -> None:
    other = tmp_path / "other.crt"
    other.write_text(Authority().pem, encoding="ascii")

    message = unreached(server.client(ca_cert=str(other)))
    assert f"its certificate is not of the authority in {other} (ca_cert)" in message
    assert "name the cluster's own in ca_cert or certificate-authority-data" in message
    assert server.requests == []
    assert server.connections == 1


@pytest.mark.parametrize(
    ("begins", "ends", "words"),
    [(-2 * DAY, -DAY, "its certificate has expired; renew it"), (DAY, 2 * DAY, "its certificate is not valid yet")],
)
def test_certificate_of_another_time(tmp_path: Path, begins: dt.timedelta, ends: dt.timedelta, words: str) -> None:
    authority = Authority()
    issued = authority.issue(begins=begins, ends=ends)
    with ApiServer(tmp_path, authority=authority, certificate=issued) as server:
        assert words in unreached(server.client())


def test_certificate_for_another_name(tmp_path: Path) -> None:
    authority = Authority()
    with ApiServer(
        tmp_path, authority=authority, certificate=authority.issue(addresses=("cluster.example",))
    ) as server:
        assert "its certificate is for another name" in unreached(server.client())
        assert server.client(tls_server_name="cluster.example").request("GET", "/version")


def test_authority_without_key_identifiers_is_trusted_as_kubectl_does(tmp_path: Path) -> None:
    with ApiServer(tmp_path, authority=Authority(has_identifiers=False)) as server:
        assert server.client().request("GET", "/version")


def test_whoever_verifies_nothing_gets_through_in_silence(server: ApiServer, tmp_path: Path) -> None:
    kubeconfig = server.kubeconfig(cluster={"certificate-authority-data": "", "insecure-skip-tls-verify": True})

    assert server.client(kubeconfig=kubeconfig).request("GET", "/version")


def test_server_without_tls_is_told_apart(tmp_path: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as plain:

        def answer() -> None:
            caller, _address = plain.accept()
            with caller:
                caller.recv(1000)
                caller.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        url = f"https://127.0.0.1:{plain.getsockname()[1]}"
        message = unreached(Client(connection({"host": url, "api_key": TOKEN}), patience=IMPATIENT))
        thread.join()
    assert "the server does not support TLS" in message


def test_client_certificate_is_shown_and_never_written_to_a_readable_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "empty"))
    (tmp_path / "empty").mkdir()
    with ApiServer(tmp_path, wants_client_certificate=True) as server:
        issued = server.authority.issue("admin")
        certificate, key = tmp_path / "admin.crt", tmp_path / "admin.key"
        certificate.write_text(issued.certificate, encoding="ascii")
        key.write_text(issued.key, encoding="ascii")
        client = server.client(client_cert=str(certificate), client_key=str(key))

        assert client.request("GET", "/version")
        assert list((tmp_path / "empty").iterdir()) == []


def test_client_certificate_works_without_files_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("os.memfd_create")
    with ApiServer(tmp_path, wants_client_certificate=True) as server:
        issued = server.authority.issue("admin")
        both = tmp_path / "admin.pem"
        both.write_text(issued.certificate + issued.key, encoding="ascii")

        assert server.client(client_cert=str(both)).request("GET", "/version")


def test_server_that_does_not_take_the_client_certificate(tmp_path: Path) -> None:
    with ApiServer(tmp_path, wants_client_certificate=True) as server:
        issued = Authority().issue("admin")
        both = tmp_path / "admin.pem"
        both.write_text(issued.certificate + issued.key, encoding="ascii")

        message = unreached(server.client(client_cert=str(both)))
    assert "it does not take the client certificate" in message
    assert str(both) in message


@pytest.mark.parametrize("greeting", [b"", alert(50), alert(80)], ids=["end", "decode_error", "internal_error"])
def test_a_handshake_that_the_server_breaks_off_is_tried_again(server: ApiServer, greeting: bytes) -> None:
    server.greetings = [greeting, greeting]
    assert server.client().request("GET", "/version")
    assert server.connections == 3

    server.greetings = [greeting] * 9
    message = unreached(server.client())
    assert "the server broke off TLS" in message
    assert "client certificate" not in message


def test_what_may_have_been_sent_on_a_broken_connection_is_not_done_twice(server: ApiServer) -> None:
    server.greetings = [alert(80), b""]
    with pytest.raises(UnreachableError, match="the server broke off TLS"):
        server.client().request("POST", PATH, body={})
    assert server.connections == 1


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (40, "the server refused TLS (SSLV3_ALERT_HANDSHAKE_FAILURE)"),
        (70, "the server refused TLS (TLSV1_ALERT_PROTOCOL_VERSION)"),
        (112, "the server refused TLS (TLSV1_UNRECOGNIZED_NAME)"),
        (48, "it does not take the client certificate (TLSV1_ALERT_UNKNOWN_CA)"),
        (116, "it does not take the client certificate (TLSV13_ALERT_CERTIFICATE_REQUIRED)"),
    ],
)
def test_a_handshake_that_is_refused_for_good_is_tried_once(server: ApiServer, number: int, words: str) -> None:
    server.greetings = [alert(number)] * 3
    assert words in unreached(server.client())
    assert server.connections == 1


@pytest.mark.parametrize("passphrase", ["", "secret"])
def test_key_that_cannot_be_used(server: ApiServer, tmp_path: Path, passphrase: str) -> None:
    issued = server.authority.issue("admin", passphrase=passphrase)
    key = issued.key if passphrase else server.authority.issue("other").key
    both = tmp_path / "admin.pem"
    both.write_text(issued.certificate + key, encoding="ascii")
    words = "a key that is encrypted" if passphrase else "its key is of another certificate"

    with pytest.raises(ConfigError, match=words):
        server.client(client_cert=str(both)).request("GET", "/version")


def test_authority_that_is_no_certificate(server: ApiServer, tmp_path: Path) -> None:
    nonsense = tmp_path / "ca.crt"
    nonsense.write_text("nonsense", encoding="ascii")

    with pytest.raises(ConfigError, match=f"{nonsense} .ca_cert. holds no certificate in PEM"):
        server.client(ca_cert=str(nonsense)).request("GET", "/version")


def test_token_that_is_not_accepted_is_named_and_not_shown(server: ApiServer) -> None:
    server.on("*", PATH, status(401, "Unauthorized", "Unauthorized"))

    error = refused(server.client())
    assert error.is_unauthorized
    assert "the token of user 'admin' in the option kubeconfig is not accepted: it has expired" in str(error)
    assert TOKEN not in str(error) + repr(error)
    assert server.requests[0].headers["Authorization"] == f"Bearer {TOKEN}"


def test_client_certificate_that_expired_is_told_with_its_date(server: ApiServer, tmp_path: Path) -> None:
    issued = server.authority.issue("admin", begins=-9 * DAY, ends=-2 * DAY)
    both = tmp_path / "admin.pem"
    both.write_text(issued.certificate + issued.key, encoding="ascii")
    server.on("*", PATH, status(401, "Unauthorized", "Unauthorized"))

    ended = (dt.datetime.now(dt.UTC) - 2 * DAY).date().isoformat()
    error = refused(server.client(client_cert=str(both)))
    assert f"the client certificate {both} in client_cert expired on {ended}: get a new one" in str(error)


def test_nobody_is_told_to_say_who_he_is(server: ApiServer) -> None:
    server.on("*", PATH, status(401, "Unauthorized", "Unauthorized"))

    error = refused(server.client(kubeconfig=server.kubeconfig(user={})))
    assert "set credentials: api_key, client_cert and client_key, or a kubeconfig with a user" in str(error)


def test_token_is_made_anew_once_when_it_is_not_accepted(server: ApiServer) -> None:
    tokens = iter(["old", "new"])
    current = [next(tokens)]
    server.on("*", PATH, status(401, "Unauthorized"), OK)

    def token() -> str:
        return current[0]

    client = Client(connection({"kubeconfig": server.kubeconfig()}, token), patience=IMPATIENT)
    server.answer = lambda _request: OK
    client.request("GET", "/version")
    current[0] = next(tokens)
    client.request("GET", PATH)
    assert [request.headers["Authorization"] for request in server.requests][-1] == "Bearer new"

    server.on("*", PATH, status(401, "Unauthorized"))
    before = len(server.requests)
    assert refused(client).is_unauthorized
    assert len(server.requests) - before == 2


def test_forbidden_says_what_to_do(server: ApiServer) -> None:
    message = 'configmaps "settings" is forbidden: User "joe" cannot get resource "configmaps"'
    server.on("*", PATH, status(403, message, "Forbidden"))

    error = refused(server.client())
    assert error.is_forbidden
    assert f"{message}; grant it by a Role or ClusterRole" in str(error)


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (
            Reply(200, "<html>Log in</html>", content_type="text/html"),
            "200 <html>Log in</html>; the answer is not from a",
        ),
        (
            Reply(302, "", (("Location", "https://login.example/?state=x"),)),
            "302 redirected to https://login.example/;",
        ),
        (Reply(404, "404 page not found"), "404 404 page not found; the answer is not from a Kubernetes API"),
        (Reply(200, "{", content_type="application/json"), "200 {; the answer is not from a Kubernetes API"),
        (Reply(403, "<h1>Forbidden</h1>", content_type="text/html"), "403 <h1>Forbidden</h1>; the answer is not"),
    ],
)
def test_what_is_no_api_server_is_said_to_be_none(server: ApiServer, reply: Reply, words: str) -> None:
    server.on("*", PATH, reply)

    assert words in str(refused(server.client()))


def test_errors_name_the_request_without_its_query(server: ApiServer) -> None:
    server.on("*", PATH, status(404, "not found", "NotFound"))

    with pytest.raises(ApiError, match=f"^GET {re.escape(PATH)}: 404 not found$"):
        server.client().request("GET", PATH, query={"secret": "x"})


def test_warnings_are_collected_once_each(server: ApiServer) -> None:
    headers = (("Warning", '299 - "a \\"b\\" is old"'), ("Warning", '299 - "use c", 299 kube "use d"'))
    server.on("*", PATH, Reply(headers=headers))
    client = server.client()

    assert client.send("GET", PATH).warnings == ('a "b" is old', "use c", "use d")
    assert client.send("GET", PATH).warnings == ('a "b" is old', "use c", "use d")
    assert client.warnings == ['a "b" is old', "use c", "use d"]


def test_a_request_is_sent_as_it_was_meant(server: ApiServer) -> None:
    server.client(impersonate_user="joe", impersonate_groups=["a", "b"]).request(
        "PATCH", PATH, query={"force": True, "fieldManager": "crypto lakehouse"}, body=SETTINGS, content_type=APPLY
    )

    (request,) = server.requests
    assert request.query == [("force", "true"), ("fieldManager", "crypto lakehouse")]
    assert request.body == SETTINGS
    assert request.headers["Content-Type"] == APPLY
    assert request.headers["Accept"] == "application/json"
    assert request.headers["Impersonate-User"] == "joe"
    assert request.headers["User-Agent"].startswith("crypto-lakehouse/")
    assert request.headers.get_all("Impersonate-Group") == ["a", "b"]


def test_texts_and_bytes_are_sent_as_they_are_and_texts_come_back(server: ApiServer) -> None:
    server.on("*", PATH, Reply(body="line\n"))
    client = server.client()

    assert client.request("PUT", PATH, body='{"a": "ü"}') == "line\n"
    assert client.request("PUT", PATH, body=b'{"a": 1}') == "line\n"
    assert [request.body for request in server.requests] == [{"a": "ü"}, {"a": 1}]


def test_answers_come_compressed_as_the_kubeconfig_says_and_by_default_not_on_one_machine(tmp_path: Path) -> None:
    with ApiServer(tmp_path, compresses=True) as server:
        server.on("*", PATH, Reply(body=SETTINGS))
        for disabled in (False, True):
            given = server.kubeconfig(cluster={"disable-compression": disabled})
            assert server.client(kubeconfig=given).request("GET", PATH) == SETTINGS
        assert server.client().request("GET", PATH) == SETTINGS
        asked = [request.headers.get("Accept-Encoding") == "gzip" for request in server.requests]
        assert asked == [True, False, False]


def test_connections_are_kept_and_shared_by_threads(server: ApiServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    server.on("*", PATH, slowly(Reply(body=SETTINGS), 0.005))
    client = server.client()

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _number: client.request("GET", PATH), range(200)))
    assert answers == [SETTINGS] * 200
    assert client.calls == 200
    assert server.connections <= 8
    assert caplog.records == []


def test_a_connection_that_the_server_closed_while_idle_is_made_anew(tmp_path: Path) -> None:
    with ApiServer(tmp_path) as server:
        closing = Reply(body=SETTINGS, headers=(("Connection", "close"),))
        server.on("*", PATH, closing)
        client = server.client()

        assert [client.request("POST", PATH, body={}) for _number in range(3)] == [SETTINGS] * 3
        assert server.connections == 3


def test_requests_of_one_client_do_not_wait_for_a_slow_one(server: ApiServer) -> None:
    released = threading.Event()

    def held_back() -> Iterator[bytes]:
        released.wait()
        yield b"{}"

    server.on("*", "/slow", Reply(stream=held_back))
    client = server.client(timeout_s=60)
    slow = threading.Thread(target=client.request, args=("GET", "/slow"))
    slow.start()
    client.request("GET", "/version")
    assert slow.is_alive()
    released.set()
    slow.join()
