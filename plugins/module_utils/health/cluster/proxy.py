# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""HTTP to services inside of a cluster, through the proxy of its API server.

The API server takes the Authorization header for itself and hands none on, so no service sees the credentials of the
cluster, and no service can be given a password this way.
"""

from __future__ import annotations

import http.client
import json
import urllib.parse
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...kube.client.errors import ApiError, KubeError, UnreachableError
from ...kube.client.paths import core_path
from ..answers import NoAnswerError, UnreachedError

if TYPE_CHECKING:
    from ...kube.client.client import Client

_PORTS = {"http": 80, "https": 443}
# What the API server's proxy writes, as text, when nobody answers behind it.
_UNREACHED = "error trying to reach service"
_CLUSTER_DOMAIN = "cluster.local"


@dataclass(frozen=True)
class ServiceAddress:
    """Where a service of a cluster is found by its URL."""

    scheme: str
    name: str
    namespace: str
    port: int
    path: str

    def proxied(self, path: str = "") -> str:
        """Return the path of the API server that leads there; `path` goes after that of the URL."""
        prefix = "https:" if self.scheme == "https" else ""
        place = core_path(self.namespace, "services", f"{prefix}{self.name}:{self.port}", "proxy")
        route = f"{self.path.rstrip('/')}{path}" if path else self.path
        return f"{place}{route or '/'}"


def service_address(url: str, namespace: str) -> ServiceAddress | None:
    """Return the service that a URL names as programs of the cluster do, or None for any other address.

    `http://NAME.NAMESPACE.svc:PORT/...`, with the cluster's domain or without, and `http://NAME:PORT` for one in
    `namespace`. Raises ValueError for what is no http or https URL.
    """
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ValueError("not an http or https URL")
    name, *place = parts.hostname.removesuffix(f".{_CLUSTER_DOMAIN}").split(".")
    if name == "localhost" or not (not place or (len(place) == 2 and place[1] == "svc")):
        return None
    query = f"?{parts.query}" if parts.query else ""
    return ServiceAddress(
        parts.scheme, name, place[0] if place else namespace, parts.port or _PORTS[parts.scheme], parts.path + query
    )


@dataclass(frozen=True)
class ServiceServer:
    """A service behind the API server's proxy, asked as `answers.Server` is."""

    client: Client
    address: ServiceAddress
    timeout_s: float

    def ask(self, path: str = "") -> tuple[int, str]:
        """Status and body of a GET.

        Raises:
            UnreachedError: the API server had no connection to a pod of the service.
            NoAnswerError: the service did not answer itself for any other reason.
        """
        try:
            answer = self.client.ask(self.address.proxied(path), timeout_s=self.timeout_s)
        except ApiError as error:
            raise NoAnswerError(_refused(error)) from error
        except UnreachableError as error:
            # It waits for a pod longer than anybody waits here.
            told = self._unreached(f"no answer within {self.timeout_s:g} s") if error.sent else str(error)
            raise (UnreachedError if error.sent else NoAnswerError)(told) from error
        except KubeError as error:
            raise NoAnswerError(str(error)) from error
        text = str(answer.body)
        if answer.status >= http.client.INTERNAL_SERVER_ERROR and text.lower().startswith(_UNREACHED):
            raise UnreachedError(self._unreached(" ".join(text.split())[:300]))
        return answer.status, text

    def _unreached(self, said: str) -> str:
        """Say what lies between the API server and a pod, which only somebody else can look at."""
        namespace = self.address.namespace
        return (
            f"the API server does not reach {self.address.name} in {namespace}: {said}; where its pods are ready, a "
            f"policy keeps the control plane out (kubectl -n {namespace} get networkpolicies): deploy again, or name "
            "its networks in lakehouse_control_plane_cidrs"
        )

    def text(self, path: str, accepted_status: tuple[int, ...] = (200,)) -> str:
        """The body of a GET. Raises NoAnswerError."""
        status, body = self.ask(path)
        if status not in accepted_status:
            raise NoAnswerError(f"HTTP {status} for {path.partition('?')[0]}")
        return body

    def json(self, path: str, accepted_status: tuple[int, ...] = (200,)) -> object:
        """The decoded body of a GET. Raises NoAnswerError, also for a body that is no JSON."""
        text = self.text(path, accepted_status)
        try:
            return json.loads(text)
        except ValueError as error:
            raise NoAnswerError(f"the answer to {path.partition('?')[0]} is not JSON") from error


def _refused(error: ApiError) -> str:
    if error.is_forbidden:
        return f"the API server's proxy is not allowed to be used: {error.message} (get on services/proxy)"
    return error.message or str(error)
