# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Define errors of a cluster as types with cause, location and remedy. They contain no secrets."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# Form of the manager in the message of a conflict: with Go's %q.
_MANAGER = re.compile(r'conflict with ("(?:[^"\\]|\\.)*")')
_CONFLICT = "FieldManagerConflict"
# Messages while the pods behind a webhook are not ready. The server has stored nothing.
# Source: k8s.io/apiserver, admission/plugin/webhook/errors and apiextensions-apiserver, conversion/webhook_converter.
_WEBHOOK_DOWN = re.compile(r"failed calling webhook|failed to call webhook|conversion webhook for .* failed: ")
# A webhook that responds, but with an invalid response.
_WEBHOOK_BROKEN = re.compile(r"received invalid webhook response|expected response|no response body")

# Server-side apply returns this with status 500 for a manifest that violates its schema; a retry cannot succeed.
# Source: k8s.io/apimachinery, util/managedfields/internal/structuredmerge.go
_UNFIT = re.compile(r"failed to (create typed patch object|convert patch object|create typed live object)")
# A string, whose brackets are ignored, or a bracket.
_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*"|[{}]')
_LONGEST_DUMP, _LONGEST_MESSAGE = 200, 2000
_VALUE = re.compile(r"&value\.valueUnstructured\{Value:(.*?)\}")


class KubeError(Exception):
    """Base class of all expected errors of a cluster. The text is for users."""


class ConfigError(KubeError):
    """The connection to the cluster is not configured, or is invalid: kubeconfig, context, certificate, credentials."""


class UnreachableError(KubeError):
    """The server did not answer, or its identity could not be verified.

    sent: whether the request may have had its effect. is_passing: whether the error may be temporary.
    """

    def __init__(self, message: str, *, sent: bool = False, is_passing: bool = True) -> None:
        super().__init__(message)
        self.sent, self.is_passing = sent, is_passing


class IdentityError(KubeError):
    """The server returned another object than the requested one. Neither object was changed."""


@dataclass(frozen=True, order=True)
class ManifestProblem:
    """One problem of a manifest: its place (file, document, line), the problem and the remedy."""

    source: str
    message: str
    remedy: str = ""

    def __str__(self) -> str:
        text = f"{self.source}: {self.message}"
        return f"{text}; {self.remedy}" if self.remedy else text


class ManifestError(KubeError):
    """The manifests are invalid. `problems` contains all of their problems, in their order."""

    def __init__(self, problems: Iterable[ManifestProblem]) -> None:
        self.problems = tuple(dict.fromkeys(problems))
        count = len(self.problems)
        head = [f"{count} problems in the manifests:"] if count > 1 else []
        super().__init__("\n".join([*head, *map(str, self.problems)]))


@dataclass(frozen=True)
class Cause:
    """One cause of a rejection: the field ('.spec.replicas'), the server's reason, and its message."""

    field: str
    reason: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message


@dataclass(frozen=True, order=True)
class Conflict:
    """A field that another manager owns with a different value."""

    manager: str
    field: str


class ApiError(KubeError):
    """A request that the server rejected or could not process.

    status: of HTTP. reason: the server's term ('NotFound'). message: the server's message, without additions of this
    class. action: the request, as in 'PATCH /api/v1/namespaces/shop'. remedy: the remedy, if known. retry_after_s: the
    delay that the server requests. continue_token: continues a list whose token expired.
    """

    def __init__(
        self,
        status: int,
        reason: str = "",
        message: str = "",
        causes: Sequence[Cause] = (),
        *,
        action: str = "",
        remedy: str = "",
        retry_after_s: float | None = None,
        continue_token: str = "",
    ) -> None:
        self.status, self.reason, self.message, self.causes = status, reason, message, tuple(causes)
        self.action, self.remedy, self.continue_token = action, remedy, continue_token
        self.retry_after_s = retry_after_s
        super().__init__(self._text())

    def _text(self) -> str:
        what = shortened(self.message or self.reason or "no message")
        # The server repeats its causes in most of its messages.
        details = [shortened(str(cause)) for cause in self.causes if cause.message not in self.message]
        parts = [f"{self.action}: " if self.action else "", f"{self.status} ", what]
        parts += [f" ({'; '.join(details)})" if details else "", f"; {self.remedy}" if self.remedy else ""]
        return "".join(parts)

    @property
    def is_unauthorized(self) -> bool:
        return self.status == 401

    @property
    def is_forbidden(self) -> bool:
        return self.status == 403

    @property
    def is_not_found(self) -> bool:
        return self.status == 404

    @property
    def is_already_there(self) -> bool:
        return self.status == 409 and self.reason == "AlreadyExists"

    @property
    def is_conflict(self) -> bool:
        """Return whether another manager owns a field, or the object changed meanwhile."""
        return self.status == 409 and self.reason != "AlreadyExists"

    @property
    def is_expired(self) -> bool:
        """Return whether a resource version or a continue token is too old."""
        return self.status == 410

    @property
    def is_invalid(self) -> bool:
        """Return whether the object is invalid: an unknown field, an invalid value, an immutable field."""
        return self.status == 422 or (self.status == 500 and bool(_UNFIT.search(self.message)))

    @property
    def is_throttled(self) -> bool:
        return self.status == 429

    @property
    def is_webhook_down(self) -> bool:
        """Return whether a webhook could not be called. The server has stored nothing."""
        return self.status == 500 and bool(_WEBHOOK_DOWN.search(self.message)) and not self._is_webhook_broken

    @property
    def _is_webhook_broken(self) -> bool:
        return bool(_WEBHOOK_BROKEN.search(self.message))

    @property
    def is_undone(self) -> bool:
        """Return whether the server reports that it did not process the request, so that any request can be retried."""
        told_when = self.status == 503 or (self.status == 500 and self.reason == "ServerTimeout")
        return self.is_throttled or self.is_webhook_down or (told_when and self.retry_after_s is not None)

    @property
    def is_passing(self) -> bool:
        """Return whether a retry of the request may succeed."""
        for_good = self.is_invalid or self._is_webhook_broken or self.status in {501, 505}
        return self.is_undone or (self.status >= 500 and not for_good)

    @property
    def conflicts(self) -> tuple[Conflict, ...]:
        """Return the fields that server-side apply did not take over, with their managers."""
        found = []
        for cause in self.causes:
            named = _MANAGER.search(cause.message)
            if cause.reason == _CONFLICT:
                found.append(Conflict(_unquoted(named[1]) if named else "another manager", cause.field))
        return tuple(found)


def shortened(text: str) -> str:
    """Return a message without dumps of whole objects, so that the text after them is visible."""
    parts: list[str] = []
    start = 0
    while (begin := text.find("{", start)) >= 0:
        end = _end_of_dump(text, begin)
        dump = text[begin:end]
        parts += [text[start:begin], f"{{... {len(dump)} characters}}" if len(dump) > _LONGEST_DUMP else dump]
        start = end
    whole = "".join([*parts, text[start:]])
    return whole if len(whole) <= _LONGEST_MESSAGE else f"{whole[:_LONGEST_MESSAGE]}... ({len(whole)} characters)"


def _end_of_dump(text: str, begin: int) -> int:
    """Return the end of a dump of Go or JSON. A truncated dump ends with the text."""
    depth = 0
    for found in _BRACKETS.finditer(text, begin):
        depth += {"{": 1, "}": -1}.get(found[0], 0)
        if not depth:
            return found.end()
    return len(text)


class ExpiredError(ApiError):
    """The version of a watch is too old: list again, and watch from the new version."""


def _unquoted(text: str) -> str:
    try:
        return str(json.loads(text))
    except ValueError:
        return text.strip('"')


def api_error(status: int, body: Any, *, action: str = "", retry_after_s: float | None = None) -> ApiError:
    """Return the error of an answer: a v1 Status, or any text of an intermediate proxy."""
    if not isinstance(body, Mapping) or body.get("kind") != "Status":
        text = " ".join(str(body or "").split())[:300]
        remedy = "the answer is not from a Kubernetes API: check the address and the proxy" if text else ""
        return ApiError(status, "", text, action=action, remedy=remedy, retry_after_s=retry_after_s)
    details = body.get("details") or {}
    causes = [
        Cause(str(cause.get("field", "")), str(cause.get("reason", "")), str(cause.get("message", "")))
        for cause in details.get("causes") or ()
    ]
    told_s = details.get("retryAfterSeconds")
    kind = ExpiredError if status == 410 else ApiError
    return kind(
        status,
        str(body.get("reason", "")),
        _VALUE.sub(r"\1", str(body.get("message", ""))),
        causes,
        action=action,
        retry_after_s=retry_after_s if told_s is None else float(told_s),
        continue_token=str((body.get("metadata") or {}).get("continue") or ""),
    )


def with_remedy(error: ApiError, remedy: str) -> ApiError:
    """Return the same error with a remedy."""
    return type(error)(
        error.status,
        error.reason,
        error.message,
        error.causes,
        action=error.action,
        remedy=remedy,
        retry_after_s=error.retry_after_s,
        continue_token=error.continue_token,
    )
