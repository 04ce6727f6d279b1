# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Send HTTP requests to services inside a cluster through the proxy of its API server.

The API server consumes the Authorization header and does not forward it. So no service receives the cluster's
credentials, and requests to a service cannot carry a password.
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
# Text of the API server's proxy when the service does not answer.
_UNREACHED = "error trying to reach service"
_CLUSTER_DOMAIN = "cluster.local"


@dataclass(frozen=True)
class ServiceAddress:
    """The address of a service inside a cluster."""

    scheme: str
    name: str
    namespace: str
    port: int
    path: str

    def proxied(self, path: str = "") -> str:
        """Return the API server's proxy path of the service. `path` is appended to the path of the URL."""
        prefix = "https:" if self.scheme == "https" else ""
        place = core_path(self.namespace, "services", f"{prefix}{self.name}:{self.port}", "proxy")
        route = f"{self.path.rstrip('/')}{path}" if path else self.path
        return f"{place}{route or '/'}"


def service_address(url: str, namespace: str) -> ServiceAddress | None:
    """Return the service of a cluster-internal URL, or None for any other address.

    Forms: `http://NAME.NAMESPACE.svc:PORT/...`, with the cluster's domain or without, and `http://NAME:PORT` for a
    service in `namespace`. Raises ValueError for other schemes than http and https.
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
    """A service behind the API server's proxy, with the interface of `answers.Server`."""

    client: Client
    address: ServiceAddress
    timeout_s: float

    def ask(self, path: str = "") -> tuple[int, str]:
        """Return status and body of a GET.

        Raises:
            UnreachedError: the API server had no connection to a pod of the service.
            NoAnswerError: the service did not answer for another reason.
        """
        try:
            answer = self.client.ask(self.address.proxied(path), timeout_s=self.timeout_s)
        except ApiError as error:
            raise NoAnswerError(_refused(error)) from error
        except UnreachableError as error:
            # The proxy waits for a pod longer than this timeout.
            told = self._unreached(f"no answer within {self.timeout_s:g} s") if error.sent else str(error)
            raise (UnreachedError if error.sent else NoAnswerError)(told) from error
        except KubeError as error:
            raise NoAnswerError(str(error)) from error
        text = str(answer.body)
        if answer.status >= http.client.INTERNAL_SERVER_ERROR and text.lower().startswith(_UNREACHED):
            raise UnreachedError(self._unreached(" ".join(text.split())[:300]))
        return answer.status, text

    def _unreached(self, said: str) -> str:
        """Return a remedy that names the components between the API server and a pod."""
        namespace = self.address.namespace
        return (
            f"the API server does not reach {self.address.name} in {namespace}: {said}; where its pods are ready, a "
            f"policy keeps the control plane out (kubectl -n {namespace} get networkpolicies): deploy again, or name "
            "its networks in lakehouse_control_plane_cidrs"
        )

    def text(self, path: str, accepted_status: tuple[int, ...] = (200,)) -> str:
        """Return the body of a GET. Raises NoAnswerError."""
        status, body = self.ask(path)
        if status not in accepted_status:
            raise NoAnswerError(f"HTTP {status} for {path.partition('?')[0]}")
        return body

    def json(self, path: str, accepted_status: tuple[int, ...] = (200,)) -> object:
        """Return the decoded body of a GET. Raises NoAnswerError, also for a body that is not JSON."""
        text = self.text(path, accepted_status)
        try:
            return json.loads(text)
        except ValueError as error:
            raise NoAnswerError(f"the answer to {path.partition('?')[0]} is not JSON") from error


def _refused(error: ApiError) -> str:
    if error.is_forbidden:
        return f"the API server's proxy is not allowed to be used: {error.message} (get on services/proxy)"
    return error.message or str(error)
