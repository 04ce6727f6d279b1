# SPDX-License-Identifier: GPL-3.0-or-later
"""Real credential programs of a kubeconfig, with every kind of failure."""

from __future__ import annotations

import datetime as dt
import json
import sys
import textwrap
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client import exec_plugin
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.client import Client
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.config import connection
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.credentials import Credential
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.errors import ConfigError
from tests.unit.kube.server import IMPATIENT, OK, ApiServer, status

V1 = "client.authentication.k8s.io/v1"
Plugin = Callable[..., Credential]


def answer(**given_status: Any) -> str:
    return json.dumps({"apiVersion": V1, "kind": "ExecCredential", "status": given_status})


def in_seconds(seconds: float) -> str:
    return (dt.datetime.now(dt.UTC) + dt.timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str], str]:
    """Write a program in Python, and return its name relative to the kubeconfig."""

    def program(source: str) -> str:
        path = tmp_path / "plugin"
        path.write_text(f"#!{sys.executable} -I\n{textwrap.dedent(source)}", encoding="utf-8")
        path.chmod(0o700)
        return "./plugin"

    return program


@pytest.fixture
def plugin(tmp_path: Path) -> Plugin:
    def plugin(command: str, cluster: dict[str, Any] | None = None, **changes: Any) -> Credential:
        given_exec = {"apiVersion": V1, "command": command, "interactiveMode": "Never", **changes}
        content = {
            "current-context": "c",
            "clusters": [{"name": "lake", "cluster": {"server": "https://a.example", **(cluster or {})}}],
            "users": [{"name": "admin", "user": {"exec": given_exec}}],
            "contexts": [{"name": "c", "context": {"cluster": "lake", "user": "admin"}}],
        }
        path = tmp_path / "kubeconfig"
        path.write_text(json.dumps(content), encoding="utf-8")
        return connection({"kubeconfig": str(path)}).credential

    return plugin


def refused(credential: Credential) -> str:
    with pytest.raises(ConfigError) as caught:
        credential.authorization()
    return str(caught.value)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import sys; sys.exit('log in first')", "failed with status 1: log in first"),
        (f"import sys; sys.exit('refused: eyJhbGciOi{'SECRET' * 9}.x')", "failed with status 1: refused: ********"),
        ("import sys; sys.exit(3)", "failed with status 3: it said nothing"),
        ("print('SECRET')", "printed no ExecCredential with a status"),
        ("print('[]')", "printed no ExecCredential with a status"),
        ("print('{\"status\": null}')", "printed no ExecCredential with a status"),
        (f"print('''{answer()}''')", "returned neither a token nor a certificate with its key"),
        (f"print('''{answer(clientCertificateData='SECRET')}''')", "neither a token nor a certificate with its key"),
        (f"print(r'''{answer(token='SECRET x' + chr(10) + 'y')}''')", "holds spaces, line breaks or characters"),
        (f"print('''{answer(token='SECRET', expirationTimestamp='soon')}''')", "printed no ExecCredential"),
        (
            f"print('''{answer(token='SECRET')}'''.replace('/v1', '/v1beta1'))",
            "answered in 'client.authentication.k8s.io/v1b",
        ),
    ],
)
def test_a_plugin_that_fails_is_named_and_what_it_printed_is_not_shown(
    program: Callable[[str], str], plugin: Plugin, tmp_path: Path, source: str, words: str
) -> None:
    message = refused(plugin(program(source)))

    assert words in message
    assert f"the plugin ./plugin of user 'admin' in {tmp_path}/kubeconfig" in message
    assert "SECRET" not in message


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "the plugin no-such-plugin of user 'admin' in "),
        ({}, "is not installed; install no-such-plugin, or put it on PATH"),
        ({"installHint": "Get it\n  from example.org"}, "is not installed; Get it from example.org"),
        (
            {"apiVersion": "client.authentication.k8s.io/v1alpha1"},
            "has apiVersion 'client.authentication.k8s.io/v1alpha1'",
        ),
        ({"apiVersion": None}, "has apiVersion None; known are client.authentication.k8s.io/v1 and"),
        ({"interactiveMode": "Always"}, "wants a terminal (interactiveMode: Always); there is none here"),
    ],
)
def test_a_plugin_that_cannot_be_run(plugin: Plugin, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        plugin("no-such-plugin", **changes).authorization()
    assert words in str(caught.value)


def test_a_plugin_that_does_not_end_is_ended(
    program: Callable[[str], str], plugin: Plugin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exec_plugin, "_TIMEOUT_S", 0.3)

    message = refused(plugin(program("import time; time.sleep(60)")))
    assert "did not end within 0.3 s; does it want a login?" in message


def test_a_plugin_gets_what_the_kubeconfig_says(program: Callable[[str], str], plugin: Plugin, tmp_path: Path) -> None:
    source = f"""
        import json, os, sys
        told = {{"arguments": sys.argv[1:], "A": os.environ["A"]}}
        told["info"] = json.loads(os.environ["KUBERNETES_EXEC_INFO"])
        open({str(tmp_path / "told")!r}, "w").write(json.dumps(told))
        print('''{answer(token="abc")}''')
    """
    cluster = {
        "certificate-authority-data": "QVVUSE9SSVRZ",
        "tls-server-name": "kubernetes",
        "extensions": [{"name": "client.authentication.k8s.io/exec", "extension": {"audience": "x"}}],
    }

    credential = plugin(
        program(source), cluster, args=["get", 7], env=[{"name": "A", "value": "b"}], provideClusterInfo=True
    )
    assert credential.authorization() == "Bearer abc"
    told = json.loads((tmp_path / "told").read_text(encoding="utf-8"))
    assert (told["arguments"], told["A"]) == (["get", "7"], "b")
    assert told["info"]["apiVersion"] == V1
    assert told["info"]["spec"] == {
        "interactive": False,
        "cluster": {
            "server": "https://a.example",
            "tls-server-name": "kubernetes",
            "certificate-authority-data": "QVVUSE9SSVRZ",
            "config": {"audience": "x"},
        },
    }


def counting(tmp_path: Path, status_source: str) -> str:
    """Return the source of a plugin that counts its runs, as N."""
    return f"""
        import json, pathlib, time
        place = pathlib.Path({str(tmp_path / "count")!r})
        N = int(place.read_text()) + 1 if place.exists() else 1
        place.write_text(str(N))
        time.sleep(0.05)
        print(json.dumps({{"apiVersion": {V1!r}, "kind": "ExecCredential", "status": {status_source}}}))
    """


@pytest.mark.parametrize(
    ("expires", "runs"), [(None, 1), (3600, 1), (-1, 3), (5, 3)], ids=["never", "later", "expired", "about to"]
)
def test_a_plugin_is_run_when_its_credentials_end_and_not_before(
    program: Callable[[str], str], plugin: Plugin, tmp_path: Path, expires: float | None, runs: int
) -> None:
    given_status = {"token": "abc"} | ({} if expires is None else {"expirationTimestamp": in_seconds(expires)})
    credential = plugin(program(counting(tmp_path, repr(given_status))))

    for _time in range(3):
        assert credential.authorization() == "Bearer abc"
    assert (tmp_path / "count").read_text(encoding="ascii") == str(runs)


def test_many_threads_run_a_plugin_once(program: Callable[[str], str], plugin: Plugin, tmp_path: Path) -> None:
    credential = plugin(program(counting(tmp_path, '{"token": f"t{N}"}')))

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _number: credential.authorization(), range(16))) == {"Bearer t1"}


def test_a_token_that_is_not_accepted_is_asked_for_anew(program: Callable[[str], str], tmp_path: Path) -> None:
    program(counting(tmp_path, '{"token": f"t{N}"}'))
    with ApiServer(tmp_path) as server:
        server.on("GET", "/api/v1/secrets", status(401, "Unauthorized"), OK)
        given_exec = {"apiVersion": V1, "command": str(tmp_path / "plugin")}
        client = Client(connection({"kubeconfig": server.kubeconfig(user={"exec": given_exec})}), patience=IMPATIENT)

        client.request("GET", "/api/v1/secrets")
        assert [request.headers["Authorization"] for request in server.requests] == ["Bearer t1", "Bearer t2"]


def test_a_certificate_of_a_plugin_is_shown_and_a_new_one_makes_new_connections(
    program: Callable[[str], str], tmp_path: Path
) -> None:
    with ApiServer(tmp_path, wants_client_certificate=True) as server:
        first, second = (server.authority.issue(name) for name in ("one", "two"))
        pairs = [
            {"clientCertificateData": issued.certificate, "clientKeyData": issued.key} for issued in (first, second)
        ]
        program(counting(tmp_path, f"{pairs!r}[min(N, 2) - 1]"))
        server.on("GET", "/api/v1/secrets", status(401, "Unauthorized"), OK)
        given_exec = {"apiVersion": V1, "command": str(tmp_path / "plugin")}
        client = Client(connection({"kubeconfig": server.kubeconfig(user={"exec": given_exec})}), patience=IMPATIENT)

        client.request("GET", "/api/v1/secrets")
        assert len(server.requests) == server.connections == 2
