# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can go wrong with a cluster, as types that say what is wrong, where and what to do. None holds a secret."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# How the server writes the manager into the message of a conflict: with Go's %q.
_MANAGER = re.compile(r'conflict with ("(?:[^"\\]|\\.)*")')
_CONFLICT = "FieldManagerConflict"
# What the server says while the pods behind a webhook are not up yet. Nothing was stored by then.
# Source: k8s.io/apiserver, admission/plugin/webhook/errors and apiextensions-apiserver, conversion/webhook_converter.
_WEBHOOK_DOWN = re.compile(r"failed calling webhook|failed to call webhook|conversion webhook for .* failed: ")
# A webhook that is up, and answers with what is no answer.
_WEBHOOK_BROKEN = re.compile(r"received invalid webhook response|expected response|no response body")

# Server-side apply says this with status 500 of a manifest that its schema does not allow: the same again is in vain.
# Source: k8s.io/apimachinery, util/managedfields/internal/structuredmerge.go
_UNFIT = re.compile(r"failed to (create typed patch object|convert patch object|create typed live object)")
# A string, in which brackets do not count, or a bracket.
_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*"|[{}]')
_LONGEST_DUMP, _LONGEST_MESSAGE = 200, 2000
_VALUE = re.compile(r"&value\.valueUnstructured\{Value:(.*?)\}")


class KubeError(Exception):
    """Base of every error about a cluster that is raised on purpose. Its text is for users."""


class ConfigError(KubeError):
    """How to reach the cluster is not said, or wrong: kubeconfig, context, certificate, credentials."""


class UnreachableError(KubeError):
    """Nothing answered, or not who it should be.

    sent: whether the request may have had its effect all the same. is_passing: whether it may be otherwise soon.
    """

    def __init__(self, message: str, *, sent: bool = False, is_passing: bool = True) -> None:
        super().__init__(message)
        self.sent, self.is_passing = sent, is_passing


class IdentityError(KubeError):
    """The server answered with another object than the one that was asked for; nothing was done to either."""


@dataclass(frozen=True, order=True)
class ManifestProblem:
    """One thing that is wrong with what is to be applied: where (file, document, line), what, and what to do."""

    source: str
    message: str
    remedy: str = ""

    def __str__(self) -> str:
        text = f"{self.source}: {self.message}"
        return f"{text}; {self.remedy}" if self.remedy else text


class ManifestError(KubeError):
    """The manifests cannot be used. `problems` holds everything that is wrong with them, in their order."""

    def __init__(self, problems: Iterable[ManifestProblem]) -> None:
        self.problems = tuple(dict.fromkeys(problems))
        count = len(self.problems)
        head = [f"{count} problems in the manifests:"] if count > 1 else []
        super().__init__("\n".join([*head, *map(str, self.problems)]))


@dataclass(frozen=True)
class Cause:
    """One detail of a refusal: the field ('.spec.replicas'), the reason in the server's word, and its message."""

    field: str
    reason: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message


@dataclass(frozen=True, order=True)
class Conflict:
    """A field that another manager owns, and set to something else."""

    manager: str
    field: str


class ApiError(KubeError):
    """What the server refused or could not do.

    status: of HTTP. reason: the server's word ('NotFound'). message: its sentence, without what this class adds.
    action: the request, as in 'PATCH /api/v1/namespaces/shop'. remedy: what to do, where that is known.
    retry_after_s: how long the server wants to be left alone. continue_token: where a list that expired can go on.
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
        """Whether another manager owns a field, or the object changed meanwhile."""
        return self.status == 409 and self.reason != "AlreadyExists"

    @property
    def is_expired(self) -> bool:
        """Whether a resource version or a continue token is too old."""
        return self.status == 410

    @property
    def is_invalid(self) -> bool:
        """Whether the object itself is wrong: an unknown field, a value that is not allowed, a field that is fixed."""
        return self.status == 422 or (self.status == 500 and bool(_UNFIT.search(self.message)))

    @property
    def is_throttled(self) -> bool:
        return self.status == 429

    @property
    def is_webhook_down(self) -> bool:
        """Whether a webhook could not be called; nothing was stored."""
        return self.status == 500 and bool(_WEBHOOK_DOWN.search(self.message)) and not self._is_webhook_broken

    @property
    def _is_webhook_broken(self) -> bool:
        return bool(_WEBHOOK_BROKEN.search(self.message))

    @property
    def is_undone(self) -> bool:
        """Whether the server says that it did not even begin, so that any request can be made again."""
        told_when = self.status == 503 or (self.status == 500 and self.reason == "ServerTimeout")
        return self.is_throttled or self.is_webhook_down or (told_when and self.retry_after_s is not None)

    @property
    def is_passing(self) -> bool:
        """Whether the same request may well succeed later."""
        for_good = self.is_invalid or self._is_webhook_broken or self.status in {501, 505}
        return self.is_undone or (self.status >= 500 and not for_good)

    @property
    def conflicts(self) -> tuple[Conflict, ...]:
        """Whose fields server-side apply did not take over."""
        found = []
        for cause in self.causes:
            named = _MANAGER.search(cause.message)
            if cause.reason == _CONFLICT:
                found.append(Conflict(_unquoted(named[1]) if named else "another manager", cause.field))
        return tuple(found)


def shortened(text: str) -> str:
    """Return a message without its dumps of whole objects, so that what stands behind them is read as well."""
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
    """Return where a dump of Go or JSON ends; one that the server cut off ends with the text."""
    depth = 0
    for found in _BRACKETS.finditer(text, begin):
        depth += {"{": 1, "}": -1}.get(found[0], 0)
        if not depth:
            return found.end()
    return len(text)


class ExpiredError(ApiError):
    """A watch began at a version that the server has forgotten: list anew, and watch from there."""


def _unquoted(text: str) -> str:
    try:
        return str(json.loads(text))
    except ValueError:
        return text.strip('"')


def api_error(status: int, body: Any, *, action: str = "", retry_after_s: float | None = None) -> ApiError:
    """Return the error that an answer tells: a v1 Status, or whatever a proxy in between wrote."""
    if not isinstance(body, Mapping) or body.get("kind") != "Status":
        text = " ".join(str(body or "").split())[:300]
        remedy = "that is no answer of a Kubernetes API: check the address and the proxy" if text else ""
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
    """Return the same error with something to do."""
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
