# SPDX-License-Identifier: GPL-3.0-or-later
"""EKS as a reachable service: `tests.unit.aws.eks_service` behind HTTP, with a responsive API server.

Requests are parsed and answers written according to botocore's model of EKS, which its clients use.
"""

from __future__ import annotations

import datetime as dt
import http.server
import itertools
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import botocore.session

from tests.integration.aws.emulator import REGION
from tests.integration.aws.wire import Answer, Call
from tests.unit.aws.eks_service import Body, Eks

ADDONS = (
    "amazon-cloudwatch-observability",
    "aws-ebs-csi-driver",
    "aws-efs-csi-driver",
    "coredns",
    "eks-pod-identity-agent",
    "kube-proxy",
    "metrics-server",
    "vpc-cni",
)
VERSIONS = ("1.34", "1.35", "1.36")
_CREDENTIAL = re.compile(r"Credential=([^/]+)/\d{8}/([^/]+)/eks/")


def offered() -> dict[str, dict[str, list[str]]]:
    """Return a separate version of each addon for each version of Kubernetes."""
    return {name: {version: [f"v{version}.0-eksbuild.1*"] for version in VERSIONS} for name in ADDONS}


@dataclass
class LiveEks(Eks):
    """EKS that is as strict as the real one and completes every operation immediately.

    endpoint, authority: address of the API server of every cluster, and its trusted certificates in base64. group: the
    security group that EKS creates for a cluster. keys: existing access keys, by id; expired: those that were valid
    before.
    """

    endpoint: str = ""
    authority: str = ""
    group: str = ""
    keys: dict[str, str] = field(default_factory=dict)
    expired: set[str] = field(default_factory=set)

    def create_cluster(self, given: Body) -> Body:
        answer = super().create_cluster(given)
        body = self.things["cluster", given["name"], ""].body
        body |= {"endpoint": self.endpoint, "certificateAuthority": {"data": self.authority}}
        body["resourcesVpcConfig"]["clusterSecurityGroupId"] = self.group
        return answer

    def _create(self, kind: str, cluster: str, name: str, body: Body, token: str) -> Body:
        answer = super()._create(kind, cluster, name, body, token)
        self.things[kind, cluster, name].begin("ACTIVE", "ACTIVE", 0)
        return answer

    def _delete(self, kind: str, cluster: str, name: str = "") -> Body:
        answer = super()._delete(kind, cluster, name)
        del self.things[kind, cluster, name]
        return answer

    def answer(self, call: Call, key: str, region: str) -> Answer:
        """Answer a call that a key has signed for a region."""
        if key in self.expired:
            message = "The security token included in the request is expired"
            return Answer.error("ExpiredTokenException", message, 403)
        if key not in self.keys:
            message = "The security token included in the request is invalid."
            return Answer.error("UnrecognizedClientException", message, 403)
        if region != REGION:
            # An object of one region does not exist in others.
            return Eks(alone=False).before(call) or Answer({})
        return self.before(call) or Answer({})

    @contextmanager
    def serving(self) -> Iterator[str]:
        """Serve within the context, whose value is the address."""
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            server.server_close()


@dataclass(frozen=True)
class Route:
    """One operation: the pattern of its requests, and the location of each parameter."""

    operation: str
    method: str
    pattern: re.Pattern[str]
    shape: Any

    def parameters(self, path: re.Match[str], query: str, content: bytes) -> dict[str, Any]:
        body, asked = json.loads(content or b"{}"), parse_qs(query)
        found: dict[str, Any] = {}
        for name, member in (self.shape.members if self.shape else {}).items():
            place, told = member.serialization.get("location"), member.serialization.get("name", name)
            if place == "uri":
                found[name] = unquote(path[told])
            elif place == "querystring" and told in asked:
                found[name] = asked[told] if member.type_name == "list" else asked[told][0]
            elif place is None and told in body:
                found[name] = body[told]
        return found


def _routes() -> list[Route]:
    model = botocore.session.Session().get_service_model("eks")
    routes = []
    for name in model.operation_names:
        operation = model.operation_model(name)
        uri = operation.http["requestUri"].partition("?")[0]
        pattern = re.compile(re.sub(r"\{(\w+)\+?\}", r"(?P<\1>[^/]+)", uri))
        routes.append(Route(name, operation.http["method"], pattern, operation.input_shape))
    # Literal parts precede names: `/addons/NAME/update` is not an addon's name.
    return sorted(routes, key=lambda route: route.pattern.groups)


def _handler(eks: LiveEks) -> type[http.server.BaseHTTPRequestHandler]:
    routes, numbers = _routes(), itertools.count(1)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def do_DELETE(self) -> None:
            self._answer()

        def _answer(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            place = urlsplit(self.path)
            found = _CREDENTIAL.search(self.headers.get("Authorization", ""))
            for route in routes:
                path = route.pattern.fullmatch(place.path)
                if path and route.method == self.command and found:
                    call = Call(next(numbers), "eks", route.operation, route.parameters(path, place.query, content))
                    self._write(eks.answer(call, found[1], found[2]))
                    return
            self._write(Answer.error("UnknownOperationException", f"{self.command} {place.path}", 404))

        def _write(self, answer: Answer) -> None:
            body: Mapping[str, Any] = answer.body
            self.send_response(answer.status)
            if "Error" in body:
                self.send_header("x-amzn-errortype", body["Error"]["Code"])
                body = {"message": body["Error"]["Message"]}
            content = json.dumps(body, default=_told).encode()
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_arguments: Any) -> None:
            """Log nothing."""

    return Handler


def _told(value: object) -> float:
    assert isinstance(value, dt.datetime), value
    return value.timestamp()
