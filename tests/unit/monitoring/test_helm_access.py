# SPDX-License-Identifier: GPL-3.0-or-later
"""Helm connects to the cluster with the settings of this collection."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.helm import access as helm_access
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.config import connection
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.connection import (
    Certificate,
    Connection,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.credentials import Fixed, basic
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.errors import ConfigError

SERVER = "https://cluster.example:6443"
AUTHORITY = "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n"


def same_again(made: Connection) -> Connection:
    """Return the connection that this collection reads from its own kubeconfig."""
    return connection({"kubeconfig": helm_access.kubeconfig(made)})


@pytest.mark.parametrize("header", ["Bearer abc", basic("us:er", "pass:word"), basic("user", "pass:word"), ""])
def test_accounts_and_tokens_arrive(header: str) -> None:
    if header == basic("us:er", "pass:word"):
        # A user name with a colon is ambiguous, here and in HTTP itself.
        header = basic("us", "er:pass:word")
    made = Connection(SERVER, credential=Fixed(header=header))
    assert same_again(made).credential.authorization() == header


def test_a_client_certificate_arrives() -> None:
    shown = Certificate(AUTHORITY, "-----BEGIN " + "PRIVATE KEY-----\nMA==\n-----END PRIVATE KEY-----\n")
    found = same_again(Connection(SERVER, credential=Fixed(shown=shown))).credential.certificate()
    assert found is not None
    assert (found.certificate, found.key) == (shown.certificate, shown.key)


def test_trust_name_and_proxy_arrive() -> None:
    made = Connection(SERVER, authority=AUTHORITY, tls_server_name="inner", proxy="http://proxy.example:3128")
    found = same_again(made)
    assert (found.server, found.authority, found.verify) == (SERVER, AUTHORITY, True)
    assert (found.tls_server_name, found.proxy) == ("inner", "http://proxy.example:3128")
    assert same_again(replace(made, authority="", verify=False)).verify is False


def test_on_whose_behalf_one_asks_arrives() -> None:
    headers = (("Impersonate-User", "anna"), ("Impersonate-Group", "a"), ("Impersonate-Group", "b"))
    user = helm_access.kubeconfig(Connection(SERVER, headers=headers))["users"][0]["user"]
    assert user == {"as": "anna", "as-groups": ["a", "b"]}


def test_headers_of_a_proxy_are_refused_since_helm_has_none() -> None:
    made = Connection(SERVER, proxy="http://proxy.example", proxy_headers={"user-agent": "x"})
    with pytest.raises(ConfigError, match="Helm cannot send headers to a proxy"):
        helm_access.kubeconfig(made)


def test_its_secrets_are_known() -> None:
    shown = Certificate(AUTHORITY, "key")
    token = helm_access.kubeconfig(Connection(SERVER, credential=Fixed(header="Bearer abc", shown=shown)))
    assert helm_access.secrets_of(token) == {"abc", "a2V5"}
    account = helm_access.kubeconfig(Connection(SERVER, credential=Fixed(header=basic("user", "word"))))
    assert helm_access.secrets_of(account) == {"word"}
