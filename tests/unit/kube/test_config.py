# SPDX-License-Identifier: GPL-3.0-or-later
"""The chosen cluster and identity: options, environment, kubeconfig files, the pod. No request reaches a server."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client import config
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.config import bypasses, connection
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.connection import Connection
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.errors import ConfigError

SERVER = "https://cluster.example:6443"
Write = Callable[..., Path]


@pytest.fixture(autouse=True)
def nothing_around(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the user's configuration from the environment."""
    for name in list(os.environ):
        if name.startswith(("K8S_AUTH_", "KUBE")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(config, "SERVICE_ACCOUNT", tmp_path / "serviceaccount")


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def kubeconfig(**changes: Any) -> dict[str, Any]:
    """Return a kubeconfig; `cluster`, `user` and `context` add fields to its entries."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": changes.get("current", "production"),
        "clusters": [{"name": "lake", "cluster": {"server": SERVER, **changes.get("cluster", {})}}],
        "users": [{"name": "admin", "user": changes.get("user", {"token": "abc"})}],
        "contexts": [
            {"name": "production", "context": {"cluster": "lake", "user": "admin", **changes.get("context", {})}}
        ],
    }


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(content: Any = None, name: str = "kubeconfig", **changes: Any) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        given_content = kubeconfig(**changes) if content is None else content
        text = given_content if isinstance(given_content, str) else json.dumps(given_content)
        path.write_text(text, encoding="utf-8")
        return path

    return write


def refused(parameters: Mapping[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        connection(parameters).credential.authorization()
    return str(caught.value)


def without(content: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in content.items() if name not in names}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a: [", "line 1: it is not YAML"),
        ("a: 1\na: 2", "line 2: the key 'a' is given twice"),
        ("- a", "is not a mapping with clusters, users and contexts"),
        ({}, "has no current-context; set context to one of: none at all"),
        (without(kubeconfig(), "current-context"), "has no current-context; set context to one of: production"),
        (kubeconfig(current="prod"), "has no context 'prod', its current-context; did you mean 'production'?"),
        (without(kubeconfig(), "clusters"), "has no cluster 'lake', which context 'production' names; there are none"),
        (without(kubeconfig(), "users"), "has no user 'admin', which context 'production' names; there are none"),
        (
            kubeconfig(context={"cluster": "lakes"}),
            "has no cluster 'lakes', which context 'production' names; did you mean",
        ),
        ({**kubeconfig(), "clusters": {"lake": {}}}, "clusters is not a list of mappings"),
        ({**kubeconfig(), "users": [{"name": "admin", "user": "abc"}]}, "user 'admin' is not a mapping"),
        (kubeconfig(cluster={"server": ""}), "cluster 'lake' names no server"),
        (kubeconfig(cluster={"server": 6443}), "server of 'lake' is not a string; quote it"),
        (
            kubeconfig(cluster={"server": "ftp://a"}),
            "names 'ftp://a', which is not an address; use https://HOST:PORT",
        ),
        (kubeconfig(cluster={"server": "https://u:secret@a:x"}), "names 'a:x', which is not an address"),
        (kubeconfig(cluster={"certificate-authority-data": "%"}), "certificate-authority-data of 'lake' is not base64"),
        (kubeconfig(cluster={"certificate-authority": "no.crt"}), "no.crt cannot be read: No such file or directory"),
        (
            kubeconfig(cluster={"proxy-url": "gopher://a"}),
            "the proxy gopher://a is not an address; use http://HOST:PORT",
        ),
        (kubeconfig(user={"client-certificate-data": encoded("c")}), "user 'admin' has no client-key"),
        (kubeconfig(user={"client-key-data": encoded("k")}), "user 'admin' has no client-certificate"),
        (kubeconfig(user={"token": "a\nb"}), "the token of user 'admin' in"),
        (kubeconfig(user={"token": 123}), "token of 'admin' is not a string; quote it"),
        (kubeconfig(user={"tokenFile": "no.token"}), "no.token cannot be read: No such file or directory"),
        (kubeconfig(user={"auth-provider": {"name": "gcp"}}), "use the exec plugin gke-gcloud-auth-plugin"),
        (kubeconfig(user={"auth-provider": {"name": "azure"}}), "use the exec plugin kubelogin"),
        (kubeconfig(user={"auth-provider": {"name": "oidc"}}), "use an exec plugin, such as kubelogin"),
        (kubeconfig(user={"exec": {}}), "exec of user 'admin' names no command"),
    ],
)
def test_a_kubeconfig_that_is_wrong_is_told_with_its_file(write: Write, content: Any, words: str) -> None:
    path = write(content)

    message = refused({"kubeconfig": str(path)})
    assert words in message
    assert str(path) in message or "proxy" in message
    assert "secret" not in message


def test_a_kubeconfig_that_does_not_exist(tmp_path: Path) -> None:
    path = tmp_path / "missing"
    assert refused({"kubeconfig": str(path)}) == f"the kubeconfig {path} cannot be read: No such file or directory"


def test_a_kubeconfig_that_may_not_be_read(tmp_path: Path) -> None:
    assert f"the kubeconfig {tmp_path} cannot be read: Is a directory" in refused({"kubeconfig": str(tmp_path)})


def test_a_kubeconfig_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    path.write_bytes(b"\xff\xfe")
    assert refused({"kubeconfig": str(path)}) == f"the kubeconfig {path} cannot be read: it is not text"


def test_a_context_that_does_not_exist_gets_the_nearest_name(write: Write) -> None:
    message = refused({"kubeconfig": str(write()), "context": "productoin"})
    assert message.endswith("has no context 'productoin'; did you mean 'production'?")


def test_no_cluster_at_all(tmp_path: Path) -> None:
    message = refused({})
    assert f"no cluster is configured: {tmp_path}/home/.kube/config does not exist, and this is not a pod" in message
    assert "set kubeconfig, or host with api_key or client_cert" in message


def test_no_cluster_in_what_the_environment_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nowhere/a:/nowhere/b")
    assert "no cluster is configured: KUBECONFIG (/nowhere/a:/nowhere/b) names no file that exists" in refused({})
    assert "/nowhere/a and /nowhere/b does not exist" in refused({"context": "a"})


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"host": "nonsense://a", "api_key": "x"}, "host names 'nonsense://a', which is not an address"),
        ({"host": "https://a:99999", "api_key": "x"}, "host names 'https://a:99999', which is not an address"),
        ({"host": SERVER, "api_key": "a b\x00"}, "the token in api_key holds spaces, line breaks or characters"),
        ({"host": SERVER, "api_key": "ünsinn"}, "the token in api_key holds spaces, line breaks or characters"),
        ({"host": SERVER, "api_key": " \n"}, "the token in api_key is empty"),
        ({"host": SERVER, "client_key": "a"}, "client_key is given without client_cert; give both"),
        (
            {"host": SERVER, "client_cert": "/nowhere"},
            "the client certificate of client_cert cannot be read from /nowhere",
        ),
        (
            {"host": SERVER, "api_key": "x", "ca_cert": "/nowhere"},
            "the certificate authority of ca_cert cannot be read",
        ),
        ({"host": SERVER, "api_key": "x", "impersonate_groups": ["a"]}, "without impersonate_user"),
        ({"host": SERVER, "api_key": "x", "proxy": "ftp://u:secret@p:1"}, "the proxy ftp://p:1 is not an address"),
    ],
)
def test_options_that_are_wrong(parameters: dict[str, Any], words: str) -> None:
    message = refused(parameters)
    assert words in message
    assert "secret" not in message


@pytest.mark.parametrize(
    ("server", "compresses"),
    [
        ("https://lake.example:6443", True),
        ("https://10.0.0.1:6443", True),
        ("https://127.0.0.1:6443", False),
        ("https://[::1]:6443", False),
        ("http://localhost:8080", False),
    ],
)
def test_answers_are_compressed_unless_the_server_is_on_this_machine(server: str, compresses: bool) -> None:
    assert Connection(server).compresses is compresses
    assert Connection(server, compress=True).compresses
    assert not Connection(server, compress=False).compresses


def test_all_that_a_kubeconfig_says_is_taken(write: Write) -> None:
    path = write(
        cluster={
            "certificate-authority-data": encoded("AUTHORITY"),
            "tls-server-name": "kubernetes",
            "proxy-url": "http://proxy.example:3128",
            "disable-compression": True,
        },
        user={"token": "abc", "as": "joe", "as-uid": "7", "as-groups": ["a", "b"], "as-user-extra": {"reason": ["x"]}},
        context={"namespace": "shop"},
    )

    found = connection({"kubeconfig": str(path)})
    assert (found.server, found.authority, found.tls_server_name) == (SERVER, "AUTHORITY", "kubernetes")
    assert (found.namespace, found.verify, found.compress) == ("shop", True, False)
    assert found.proxy == "http://proxy.example:3128"
    assert found.authority_name == f"cluster 'lake' of {path}"
    assert found.origin == f"context 'production' of {path}"
    assert found.credential.authorization() == "Bearer abc"
    assert found.credential.name == f"the token of user 'admin' in {path}"
    assert found.headers == (
        ("Impersonate-User", "joe"),
        ("Impersonate-Uid", "7"),
        ("Impersonate-Group", "a"),
        ("Impersonate-Group", "b"),
        ("Impersonate-Extra-reason", "x"),
    )


def test_nothing_shows_what_is_secret(write: Write) -> None:
    user = {"token": "hidden", "client-certificate-data": encoded("hidden"), "client-key-data": encoded("hidden")}
    found = connection({"kubeconfig": str(write(user=user)), "proxy": "http://u:hidden@proxy.example:1"})

    assert "hidden" not in repr(found) + repr(found.credential) + found.proxy_name
    assert found.proxy_name == "http://proxy.example:1"


@pytest.mark.parametrize(
    ("user", "header"),
    [
        ({"token": "abc\n"}, "Bearer abc"),
        ({"username": "joe", "password": "pä"}, f"Basic {encoded('joe:pä')}"),
        ({"auth-provider": {"name": "oidc", "config": {"id-token": "xyz"}}}, "Bearer xyz"),
        ({"token": "abc", "username": "joe", "password": "p"}, "Bearer abc"),
        ({}, ""),
    ],
)
def test_ways_to_say_who_one_is(write: Write, user: dict[str, Any], header: str) -> None:
    assert connection({"kubeconfig": str(write(user=user))}).credential.authorization() == header


def test_paths_are_relative_to_the_kubeconfig_and_data_comes_first(write: Write, tmp_path: Path) -> None:
    for name in ("ca.crt", "admin.crt", "admin.key", "token"):
        (tmp_path / "conf").mkdir(exist_ok=True)
        (tmp_path / "conf" / name).write_text(f"of {name}", encoding="ascii")
    user = {"client-certificate": "admin.crt", "client-key": "admin.key", "tokenFile": "token", "token": "other"}
    user["client-key-data"] = encoded("data")
    path = write(name="conf/kubeconfig", cluster={"certificate-authority": "ca.crt"}, user=user)

    found = connection({"kubeconfig": str(path)})
    shown = found.credential.certificate()
    assert found.authority == "of ca.crt"
    assert shown is not None
    assert (shown.certificate, shown.key) == ("of admin.crt", "data")
    with pytest.raises(ConfigError, match="holds spaces, line breaks or characters that no token has"):
        found.credential.authorization()
    (tmp_path / "conf" / "token").write_text("abc\n", encoding="ascii")
    assert found.credential.authorization() == "Bearer abc"


def test_a_token_in_a_file_is_read_again_when_it_is_not_accepted(write: Write, tmp_path: Path) -> None:
    place = tmp_path / "token"
    place.write_text("one", encoding="ascii")
    credential = connection({"kubeconfig": str(write(user={"tokenFile": str(place)}))}).credential

    assert credential.authorization() == "Bearer one"
    place.write_text("two", encoding="ascii")
    assert credential.authorization() == "Bearer one"
    assert credential.renew("Bearer another")
    assert credential.authorization() == "Bearer one"
    assert credential.renew("Bearer one")
    assert credential.authorization() == "Bearer two"


def test_several_files_are_one_and_the_first_counts(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = write({"current-context": "production", "users": [{"name": "admin", "user": {"token": "first"}}]}, name="a")
    second = write(name="sub/b", current="other", cluster={"certificate-authority": "ca.crt"})
    (tmp_path / "sub" / "ca.crt").write_text("AUTHORITY", encoding="ascii")
    listed = f"{first}:{tmp_path / 'missing'}::{second}"
    monkeypatch.setenv("KUBECONFIG", listed)

    found = connection({})
    assert found.server == SERVER
    assert found.authority == "AUTHORITY"
    assert found.credential.authorization() == "Bearer first"
    assert "missing cannot be read" in refused({"kubeconfig": listed})


def test_a_kubeconfig_may_be_given_as_data() -> None:
    found = connection({"kubeconfig": kubeconfig()})
    assert (found.server, found.credential.authorization()) == (SERVER, "Bearer abc")
    message = refused({"kubeconfig": kubeconfig(), "context": "x"})
    assert message == "the option kubeconfig has no context 'x'; known are: production"


def test_a_kubeconfig_in_the_home_of_the_user_is_found(write: Write) -> None:
    write(name="home/.kube/config")
    assert connection({}).server == SERVER
    assert connection({"kubeconfig": "~/.kube/config"}).server == SERVER


def test_the_environment_fills_what_the_module_leaves_open(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = tmp_path / "ca.crt"
    authority.write_text("OTHER", encoding="ascii")
    environment = {
        "KUBECONFIG": str(write("nonsense", name="other")),
        "K8S_AUTH_KUBECONFIG": str(write()),
        "K8S_AUTH_CONTEXT": "production",
        "K8S_AUTH_HOST": "https://other.example/",
        "K8S_AUTH_API_KEY": "of-the-environment",
        "K8S_AUTH_SSL_CA_CERT": str(authority),
        "K8S_AUTH_VERIFY_SSL": "no",
        "K8S_AUTH_IMPERSONATE_USER": "joe",
        "K8S_AUTH_IMPERSONATE_GROUPS": "a,b",
        "K8S_AUTH_PROXY": "http://proxy.example:1",
        "K8S_AUTH_PROXY_HEADERS_PROXY_BASIC_AUTH": "u:p",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    found = connection({"context": None, "api_key": None})
    assert (found.server, found.authority, found.verify) == ("https://other.example", "OTHER", False)
    assert found.credential.authorization() == "Bearer of-the-environment"
    assert found.headers == (("Impersonate-User", "joe"), ("Impersonate-Group", "a"), ("Impersonate-Group", "b"))
    assert found.proxy == "http://proxy.example:1"
    assert found.proxy_headers == {"proxy-authorization": f"Basic {encoded('u:p')}"}
    assert connection({"api_key": "mine", "validate_certs": True}).verify
    assert connection({"api_key": "mine"}).credential.authorization() == "Bearer mine"


def test_credentials_of_the_options_replace_all_of_the_kubeconfigs(write: Write, tmp_path: Path) -> None:
    user = {"client-certificate-data": encoded("c"), "client-key-data": encoded("k"), "token": "of-the-file"}
    path = str(write(user=user))
    both = tmp_path / "admin.pem"
    both.write_text("PEM", encoding="ascii")

    by_token = connection({"kubeconfig": path, "api_key": "mine"}).credential
    assert (by_token.authorization(), by_token.certificate()) == ("Bearer mine", None)
    by_account = connection({"kubeconfig": path, "username": "joe", "password": "p"}).credential
    assert by_account.authorization() == f"Basic {encoded('joe:p')}"
    by_certificate = connection({"kubeconfig": path, "client_cert": str(both)}).credential
    shown = by_certificate.certificate()
    assert by_certificate.authorization() == ""
    assert shown is not None
    assert (shown.certificate, shown.key) == ("PEM", "")
    by_function = connection({"kubeconfig": path, "api_key": "mine"}, lambda: "made").credential
    assert (by_function.authorization(), by_function.certificate()) == ("Bearer made", None)


def test_a_host_with_credentials_needs_no_kubeconfig(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nowhere")

    assert connection({"host": SERVER, "api_key": "x"}).server == SERVER
    assert connection({"host": SERVER}, lambda: "made").credential.authorization() == "Bearer made"
    tunnel = connection({"host": "http://127.0.0.1:8001/"})
    assert (tunnel.server, tunnel.credential.authorization()) == ("http://127.0.0.1:8001", "")
    assert connection({"host": "cluster.example:6443", "api_key": "x"}).server == SERVER
    assert connection({"host": "https://rancher.example/k8s/c-1/", "api_key": "x"}).server.endswith("/k8s/c-1")


def test_a_function_that_makes_tokens_is_asked_each_time() -> None:
    tokens = iter(["one", "two"])
    credential = connection({"host": SERVER}, lambda: next(tokens)).credential

    assert [credential.authorization(), credential.authorization()] == ["Bearer one", "Bearer two"]


def pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str = "10.0.0.1") -> Path:
    folder = tmp_path / "serviceaccount"
    folder.mkdir()
    for name, text in {"token": "of-the-pod\n", "ca.crt": "AUTHORITY", "namespace": "shop\n"}.items():
        (folder / name).write_text(text, encoding="ascii")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "6443")
    return folder


@pytest.mark.parametrize(
    ("host", "server"), [("10.0.0.1", "https://10.0.0.1:6443"), ("fd00::1", "https://[fd00::1]:6443")]
)
def test_a_pod_uses_its_service_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, server: str
) -> None:
    pod(tmp_path, monkeypatch, host)

    found = connection({})
    assert (found.server, found.authority, found.namespace) == (server, "AUTHORITY", "shop")
    assert found.credential.authorization() == "Bearer of-the-pod"


def test_a_kubeconfig_comes_before_the_pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Write) -> None:
    pod(tmp_path, monkeypatch)

    monkeypatch.setenv("KUBECONFIG", str(write()))
    assert connection({}).server == SERVER


def test_a_pod_without_its_authority_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (pod(tmp_path, monkeypatch) / "ca.crt").unlink()

    assert "the certificate authority cannot be read from" in refused({})


@pytest.mark.parametrize(
    ("server", "environment", "proxy"),
    [
        (SERVER, {"HTTPS_PROXY": "http://p:1"}, "http://p:1"),
        (SERVER, {"https_proxy": "p:1"}, "http://p:1"),
        (SERVER, {"HTTP_PROXY": "http://p:1"}, ""),
        (SERVER, {"HTTPS_PROXY": "http://p:1", "NO_PROXY": ".example"}, ""),
        (SERVER, {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "other.example"}, "http://p:1"),
        ("https://10.1.2.3", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "10.0.0.0/8"}, ""),
        ("https://127.0.0.1:6443", {"HTTPS_PROXY": "http://p:1"}, ""),
        ("https://localhost:6443", {"HTTPS_PROXY": "http://p:1"}, ""),
    ],
)
def test_the_proxy_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, server: str, environment: dict[str, str], proxy: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    assert connection({"host": server, "api_key": "x"}).proxy == proxy


def test_the_proxy_of_the_options_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://other:1")
    given_options = {"host": SERVER, "api_key": "x", "proxy": "http://p:1"}

    assert connection(given_options).proxy == "http://p:1"
    assert connection({**given_options, "no_proxy": "a, cluster.example"}).proxy == ""
    by_headers = connection({**given_options, "proxy_headers": {"user_agent": "me", "basic_auth": "u:p"}})
    assert by_headers.proxy_headers == {"user-agent": "me", "authorization": f"Basic {encoded('u:p')}"}


@pytest.mark.parametrize(
    ("host", "no_proxy", "expected"),
    [
        ("a.example", "", False),
        ("a.example", " , ", False),
        ("a.example", "*", True),
        ("a.example", "example", True),
        ("a.example", ".example", True),
        ("a.example", "*.example", True),
        ("a.example", "A.Example", True),
        ("a.example", "a.example:443", True),
        ("bexample", "example", False),
        ("a.example", "b.example", False),
        ("10.1.2.3", "10.0.0.0/8", True),
        ("10.1.2.3", "11.0.0.0/8,10.1.2.3", True),
        ("11.1.2.3", "10.0.0.0/8", False),
        ("fd00::1", "fd00::/8", True),
        ("fd00::1", "::1", False),
        ("a.example", "10.0.0.0/8", False),
    ],
)
def test_who_is_reached_without_the_proxy(host: str, no_proxy: str, expected: bool) -> None:
    assert bypasses(host, no_proxy) is expected


@given(st.text(), st.text())
def test_no_list_is_too_odd(host: str, no_proxy: str) -> None:
    assert bypasses(host, f"{no_proxy},*")
    assert bypasses(host, no_proxy) in {True, False}


@pytest.mark.parametrize(
    ("value", "verify"), [(False, False), ("no", False), ("False", False), ("0", False), (True, True), ("yes", True)]
)
def test_words_for_not_verifying(value: object, verify: bool) -> None:
    assert connection({"host": SERVER, "api_key": "x", "validate_certs": value}).verify is verify


def test_an_authority_that_is_named_is_used_although_the_kubeconfig_trusts_everybody(
    write: Write, tmp_path: Path
) -> None:
    authority = tmp_path / "ca.crt"
    authority.write_text("AUTHORITY", encoding="ascii")
    path = str(write(cluster={"insecure-skip-tls-verify": True}))

    assert not connection({"kubeconfig": path}).verify
    assert connection({"kubeconfig": path, "ca_cert": str(authority)}).verify
    assert not connection({"kubeconfig": path, "ca_cert": str(authority), "validate_certs": False}).verify
