# SPDX-License-Identifier: GPL-3.0-or-later
"""Authentication of EKS: the webhook with which an API server resolves a token to an identity.

It implements aws-iam-authenticator, which EKS runs. A token is a presigned GetCallerIdentity of STS, no older than a
quarter of an hour, whose signature includes the cluster's name. The webhook makes that call and returns the identity of
the answer. Emulators do not verify the signature of a presigned call, so it is verified here, as in STS. Source:
pkg/token/token.go and pkg/server/server.go of https://github.com/kubernetes-sigs/aws-iam-authenticator.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import hashlib
import hmac
import http.server
import json
import re
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qs, quote, urlsplit

import urllib3

from tests.integration.kube.cluster import Authority

PREFIX = "k8s-aws-v1."
HEADER = "x-k8s-aws-id"
LIFE_S = 900.0
_MOST = 4096
_ALLOWED = {
    "action",
    "version",
    "x-amz-algorithm",
    "x-amz-credential",
    "x-amz-date",
    "x-amz-expires",
    "x-amz-security-token",
    "x-amz-signature",
    "x-amz-signedheaders",
}
_ARN = re.compile(rb"<Arn>([^<]+)</Arn>")
_NOTHING = hashlib.sha256(b"").hexdigest()


class RefusedError(Exception):
    """A rejected token, with the reason."""


@dataclass
class Authenticator:
    """The webhook of one cluster.

    keys: secret access keys by their ids. users: names and groups in Kubernetes by the ARN that AWS returns. sts:
    endpoint of STS. life_s: lifetime of a token. refusals: reasons of rejected tokens; tokens: received ones.
    """

    cluster: str
    folder: Path
    keys: dict[str, str]
    users: Mapping[str, tuple[str, tuple[str, ...]]]
    sts: str = ""
    life_s: float = LIFE_S
    refusals: list[str] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)

    @contextmanager
    def serving(self, authority: Authority) -> Iterator[Path]:
        """Serve within the context, whose value is the webhook's kubeconfig for an API server."""
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        certificate = self.folder / "authenticator.pem"
        certificate.write_bytes(authority.issue("authenticator"))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield self._kubeconfig(f"https://127.0.0.1:{server.server_address[1]}/authenticate", authority)
        finally:
            server.shutdown()
            server.server_close()

    def _kubeconfig(self, url: str, authority: Authority) -> Path:
        trusted = base64.b64encode(authority.pem).decode()
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "webhook", "cluster": {"server": url, "certificate-authority-data": trusted}}],
            "users": [{"name": "apiserver", "user": {}}],
            "contexts": [{"name": "webhook", "context": {"cluster": "webhook", "user": "apiserver"}}],
            "current-context": "webhook",
        }
        path = self.folder / "authenticator.json"
        path.write_text(json.dumps(content), "utf-8")
        return path

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        authenticator = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                content = json.dumps(authenticator.review(review)).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_arguments: Any) -> None:
                """Log nothing."""

        return Handler

    def review(self, review: Mapping[str, Any]) -> dict[str, Any]:
        """Answer a TokenReview."""
        token = review["spec"].get("token", "")
        try:
            user, groups = self.identify(token)
        except RefusedError as error:
            self.refusals.append(str(error))
            status: dict[str, Any] = {"authenticated": False, "error": str(error)}
        else:
            self.tokens.add(token)
            status = {"authenticated": True, "user": {"username": user, "groups": list(groups)}}
        return {"apiVersion": review["apiVersion"], "kind": "TokenReview", "status": status}

    def identify(self, token: str) -> tuple[str, tuple[str, ...]]:
        """Return name and groups of a token's owner. Raises RefusedError."""
        place, words = _opened(token)
        if place.netloc != urlsplit(self.sts).netloc or place.path != "/":
            raise RefusedError("the token is not a call of STS")
        self._check_age(words)
        self._check_signature(place, words)
        arn = self._call(place)
        if arn not in self.users:
            raise RefusedError(f"{arn} has no access entry")
        return self.users[arn]

    def _check_age(self, words: Mapping[str, str]) -> None:
        signed = dt.datetime.strptime(words["x-amz-date"], "%Y%m%dT%H%M%S%z")
        age_s = (dt.datetime.now(dt.UTC) - signed).total_seconds()
        if not 0 <= int(words["x-amz-expires"]) <= LIFE_S or age_s > self.life_s:
            raise RefusedError(f"the token has expired, it is {age_s:.0f} s old")

    def _check_signature(self, place: SplitResult, words: Mapping[str, str]) -> None:
        """Compute the signature with this cluster's name. Source: AWS Signature Version 4, query string."""
        signed = words["x-amz-signedheaders"].split(";")
        if HEADER not in signed:
            raise RefusedError(f"the token is signed without {HEADER}")
        key_id, *scope = words["x-amz-credential"].split("/")
        if key_id not in self.keys:
            raise RefusedError("InvalidClientTokenId")
        values = {"host": place.netloc, HEADER: self.cluster}
        headers = "".join(f"{name}:{values[name]}\n" for name in signed)
        given = parse_qs(place.query, strict_parsing=True)
        query = "&".join(
            f"{quote(name, safe='-_.~')}={quote(given[name][0], safe='-_.~')}"
            for name in sorted(given)
            if name.lower() != "x-amz-signature"
        )
        request = "\n".join(["GET", place.path, query, headers, words["x-amz-signedheaders"], _NOTHING])
        digest = hashlib.sha256(request.encode()).hexdigest()
        text = "\n".join(["AWS4-HMAC-SHA256", words["x-amz-date"], "/".join(scope), digest])
        key = f"AWS4{self.keys[key_id]}".encode()
        for part in scope:
            key = hmac.digest(key, part.encode(), "sha256")
        if not hmac.compare_digest(hmac.new(key, text.encode(), "sha256").hexdigest(), words["x-amz-signature"]):
            raise RefusedError(f"SignatureDoesNotMatch: the token is not of cluster {self.cluster}")

    def _call(self, place: SplitResult) -> str:
        answer = urllib3.request("GET", place.geturl(), headers={HEADER: self.cluster}, timeout=20, retries=False)
        found = _ARN.search(answer.data)
        if answer.status != 200 or found is None:
            raise RefusedError(f"STS refuses the call: {answer.status}")
        return found[1].decode()


def _opened(token: str) -> tuple[SplitResult, dict[str, str]]:
    """Return the call inside a token, and its query keys in lower case."""
    if len(token) > _MOST or not token.startswith(PREFIX):
        raise RefusedError("not a token of EKS")
    encoded = token.removeprefix(PREFIX)
    try:
        place = urlsplit(base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode())
        given = parse_qs(place.query, strict_parsing=True)
    except (binascii.Error, ValueError):
        raise RefusedError("the token cannot be read") from None
    words = {name.lower(): values[0] for name, values in given.items()}
    if not set(words) <= _ALLOWED or any(len(values) > 1 for values in given.values()):
        raise RefusedError("the token says more than it may")
    if words.get("action") != "GetCallerIdentity" or not {"x-amz-date", "x-amz-credential"} <= set(words):
        raise RefusedError("the token is not a GetCallerIdentity")
    return place, words
