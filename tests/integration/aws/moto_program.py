# SPDX-License-Identifier: GPL-3.0-or-later
"""Start moto without the work that it repeats for each request and for each account.

For each request it lists its folders and methods, and logs: a third of the CPU time. It also closes the connection,
so that client and server open another one, and start a thread for it, and looks for the access key in each partition of
each account. For each account it reads the managed policies of AWS five times, once per partition: half a second.
"""

from __future__ import annotations

import copy
import functools
import io
import json
from collections.abc import Callable
from typing import Any

from moto import backends, server
from moto.core import responses
from moto.core.utils import method_names_from_class
from moto.iam import models as iam
from moto.iam.aws_managed_policies import aws_managed_policies_data
from moto.iam.models import AWSManagedPolicy, IAMBackend
from moto.moto_server.werkzeug_app import MotoRequestHandler
from moto.server import main
from werkzeug.exceptions import InternalServerError

# The partition in which the tests run.
_PARTITION = "aws"


@functools.cache
def _managed_policies() -> list[Any]:
    described = json.loads(aws_managed_policies_data)
    return [AWSManagedPolicy.from_data(name, "aws", _PARTITION, policy) for name, policy in described.items()]


def managed_policies(backend: IAMBackend) -> list[Any]:
    """Return copies of the managed policies of AWS: an account counts its attachments."""
    if backend.region_name != _PARTITION:
        return []
    copies = [copy.copy(policy) for policy in _managed_policies()]
    for policy in copies:
        policy.account_id = backend.account_id
    return copies


_accounts: dict[str, str] = {}
_find_account = iam.get_account_id_from


def account_of(access_key: str) -> str:
    """Return the account of an access key, which is looked for again where the account does not have it any more."""
    known = _accounts.get(access_key)
    if known is None or access_key not in iam.iam_backends[known][_PARTITION].access_keys:
        known = _accounts[access_key] = _find_account(access_key)
    return known


class KeptConnectionHandler(MotoRequestHandler):
    """Answers each request in one write, and keeps the connection for the next request, as AWS does."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def run_wsgi(self) -> None:
        """Answer one request. The answer to `Expect: 100-continue` was sent when its headers were parsed."""
        environ = self.make_environ()
        # What is left of a request would be taken for the next one.
        body = environ["wsgi.input"]
        is_chunked = environ.get("wsgi.input_terminated", False)
        environ["wsgi.input"] = io.BytesIO(
            body.read() if is_chunked else body.read(int(self.headers["Content-Length"] or 0))
        )
        started: list[Any] = []
        parts: list[bytes] = []

        def start_response(
            status: str, headers: list[tuple[str, str]], _error: Any = None, /
        ) -> Callable[[bytes], object]:
            started[:] = [status, headers]
            return parts.append

        try:
            parts += self.server.app(environ, start_response)
        except Exception as error:  # noqa: BLE001 - the client is answered whatever an emulated service raises
            self.log_error("%s %s: %r", self.command, self.path, error)
            parts = [*InternalServerError()(environ, start_response)]
        status, headers = started
        content = b"".join(parts)
        self.wfile.write(self._head(status, headers, content) + content)

    def _head(self, status: str, headers: list[tuple[str, str]], content: bytes) -> bytes:
        given = [("Server", self.version_string()), ("Date", self.date_time_string()), *headers]
        has_length = any(name.lower() == "content-length" for name, _value in headers)
        if not has_length and self.command != "HEAD" and not status.startswith(("1", "204", "304")):
            given.append(("Content-Length", str(len(content))))
        lines = [f"{self.protocol_version} {status}", *(f"{name}: {value}" for name, value in given), "", ""]
        return "\r\n".join(lines).encode("latin-1")


def prepare() -> None:
    """Let moto compute once what is the same for each request and each account."""
    modules = frozenset(backends.list_of_moto_modules())
    replacements: tuple[tuple[Any, str, Any], ...] = (
        (backends, "list_of_moto_modules", lambda: modules),
        (responses, "method_names_from_class", functools.cache(method_names_from_class)),
        (server, "MotoRequestHandler", KeptConnectionHandler),
        (IAMBackend, "_init_aws_policies", managed_policies),
        (iam, "get_account_id_from", account_of),
    )
    for place, name, replacement in replacements:
        setattr(place, name, replacement)


if __name__ == "__main__":
    prepare()
    main()
