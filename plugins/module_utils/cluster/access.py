# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Define connection options of cluster modules, and connect to clusters, for EKS through AWS.

This package depends on `kube` and `aws`, which are independent of each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..kube.client.errors import ConfigError

if TYPE_CHECKING:
    from ..kube.client.connection import Connection

_HEADERS = {
    "basic_auth": {"type": "str", "no_log": True},
    "proxy_basic_auth": {"type": "str", "no_log": True},
    "user_agent": {"type": "str"},
}
CLUSTER_SPEC: dict[str, dict[str, Any]] = {
    "kubeconfig": {"type": "raw"},
    "context": {"type": "str"},
    "host": {"type": "str"},
    "api_key": {"type": "str", "no_log": True},
    "username": {"type": "str"},
    "password": {"type": "str", "no_log": True},
    "client_cert": {"type": "path", "aliases": ["cert_file"]},
    "client_key": {"type": "path", "aliases": ["key_file"], "no_log": False},
    "ca_cert": {"type": "path", "aliases": ["ssl_ca_cert"]},
    "tls_server_name": {"type": "str"},
    "validate_certs": {"type": "bool", "aliases": ["verify_ssl"]},
    "proxy": {"type": "str"},
    "no_proxy": {"type": "str"},
    "proxy_headers": {"type": "dict", "options": _HEADERS},
    "impersonate_user": {"type": "str"},
    "impersonate_groups": {"type": "list", "elements": "str"},
    "eks_cluster": {"type": "str"},
    "region": {"type": "str", "aliases": ["aws_region"]},
    "profile": {"type": "str", "aliases": ["aws_profile"]},
    "access_key": {"type": "str", "aliases": ["aws_access_key_id", "aws_access_key"], "no_log": False},
    "secret_key": {"type": "str", "aliases": ["aws_secret_access_key", "aws_secret_key"], "no_log": True},
    "session_token": {"type": "str", "aliases": ["aws_session_token"], "no_log": True},
    "assume_role_arn": {"type": "str"},
    "external_id": {"type": "str"},
    "role_session_name": {"type": "str"},
    "endpoint_url": {"type": "str", "aliases": ["aws_endpoint_url"]},
    "aws_ca_bundle": {"type": "path"},
}
CLUSTER_TOGETHER = [["access_key", "secret_key"]]
# EKS provides address and authority of a cluster, and the credentials are an AWS identity.
CLUSTER_EXCLUSIVE = [["eks_cluster", other] for other in ("kubeconfig", "context", "host", "api_key", "username")]
_NAME = "eks"
_REMEDY = (
    "let the identity of AWS that runs this in by an access entry of the cluster (inventory: "
    "lakehouse_eks_admin_arns), and check that its credentials are still good and that this machine's clock is right"
)


class AbsentClusterError(ConfigError):
    """EKS has no such cluster, or the cluster is not active yet."""


def cluster_connection(parameters: Mapping[str, Any]) -> Connection:
    """Return the connection to the cluster of a module's parameters. Raises ConfigError."""
    if parameters.get("eks_cluster"):
        return _eks_connection(parameters)
    # Modules for hosts also have these options, but do not require the packages for clusters.
    from ..kube.client.config import connection

    return connection(parameters)


def _eks_connection(parameters: Mapping[str, Any]) -> Connection:
    # Most connections do not require AWS, and its import takes longer than everything else.
    from ..aws import session as aws
    from ..aws.arguments import verified_connection
    from ..aws.eks_token import EXPIRES_S, make_token
    from ..engine.errors import EngineError
    from ..kube.client.config import connection
    from ..kube.client.credentials import Renewing

    name = str(parameters["eks_cluster"])
    try:
        session = aws.Session(verified_connection(parameters))
        answer = session.look("eks", "describe_cluster", ("ResourceNotFoundException",), name=name)
        found = (answer or {}).get("cluster") or {}
        place = session.region
    except ImportError:
        raise ConfigError("eks_cluster needs the Python package boto3, which is not installed here") from None
    except EngineError as error:
        raise ConfigError(f"the cluster {name} cannot be asked for: {error}") from error
    if not found.get("endpoint"):
        status = f"it is {found['status']}" if found else "there is none of this name"
        raise AbsentClusterError(f"the cluster {name} in {place} cannot be used: {status}")

    def token() -> str:
        try:
            return make_token(session.client("sts"), name)
        except EngineError as error:
            raise ConfigError(f"a token for the cluster {name} cannot be made: {error}") from error

    given = {option: parameters.get(option) for option in ("proxy", "no_proxy", "proxy_headers", "validate_certs")}
    reached = connection({**given, "kubeconfig": _kubeconfig(found)}, token)
    # A new token requires no API call. A rejected token is replaced immediately.
    what = f"the token that was made for the cluster {name} of EKS"
    return replace(reached, credential=Renewing(token, what, lifetime_s=EXPIRES_S / 2, remedy=_REMEDY))


def _kubeconfig(cluster: Mapping[str, Any]) -> dict[str, Any]:
    """Return a kubeconfig from EKS's description of a cluster."""
    authority = cluster["certificateAuthority"]["data"]
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": _NAME, "cluster": {"server": cluster["endpoint"], "certificate-authority-data": authority}}
        ],
        "users": [{"name": _NAME, "user": {}}],
        "contexts": [{"name": _NAME, "context": {"cluster": _NAME, "user": _NAME}}],
        "current-context": _NAME,
    }


def secrets_in(parameters: Mapping[str, Any]) -> set[str]:
    """Return the secrets of a kubeconfig that is passed as data, which logs must not contain."""
    given = parameters.get("kubeconfig")
    users = given.get("users") if isinstance(given, Mapping) else None
    return {text for text in _texts(users) if len(text) > 3}


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if key != "name":
                yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
