# SPDX-License-Identifier: GPL-3.0-or-later
"""Record the calls between the code under test and AWS, and disturb or answer them where a test requires it.

A `Wire` is attached to a session. Its own log makes tests independent of the session's log. It asks its `behaviour`
about every call before it is sent and after it was answered. Before that, botocore checks the parameters of each call
against the service's model. The wire checks scripted answers against that model.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from botocore.exceptions import ConnectionClosedError, EndpointConnectionError, ReadTimeoutError
from botocore.validate import validate_parameters

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.session import Session

# Operations with other prefixes are mutating.
_READING = ("Get", "Describe", "List", "Head", "BatchGet", "AssumeRole", "Simulate", "Lookup", "Search")


@dataclass(frozen=True)
class Call:
    """One call. service: name in botocore's events (`ec2`, `cloudwatch-logs`); number: 1 is the first."""

    number: int
    service: str
    operation: str
    parameters: Mapping[str, Any]

    @property
    def name(self) -> str:
        return f"{self.service}:{self.operation}"

    @property
    def is_mutating(self) -> bool:
        return not self.operation.startswith(_READING)

    def __str__(self) -> str:
        return f"#{self.number} {self.name}"


class Behaviour:
    """Changes no calls. Override the methods that a test needs; several threads may call both."""

    def before(self, call: Call) -> Answer | None:
        """Before a call is sent: raise, answer instead of the service, or return None to send it."""

    def after(self, call: Call, answer: dict[str, Any]) -> Answer | None:
        """After a call took effect: raise, return another answer, or return None to keep the answer."""


@dataclass(frozen=True)
class Answer:
    """A service's answer: the parsed body and the status of HTTP."""

    body: Mapping[str, Any]
    status: int = 200

    @classmethod
    def error(cls, code: str, message: str = "made by a test", status: int = 400) -> Answer:
        return cls({"Error": {"Code": code, "Message": message}}, status)


@dataclass
class Wire:
    """The calls of all sessions to which it was attached."""

    behaviour: Behaviour = field(default_factory=Behaviour)
    calls: list[Call] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._thread = threading.local()

    @property
    def mutating(self) -> list[Call]:
        return [call for call in self.calls if call.is_mutating]

    def names(self) -> list[str]:
        return [call.name for call in self.calls]

    def attach(self, session: Session) -> Session:
        """Record the calls of a session that has no client yet."""
        assert not session._clients, "the session has clients already, which cannot be watched any more"
        emitter = session._botocore.get_component("event_emitter")
        emitter.register_last("before-parameter-build", self._parameters)
        emitter.register_first("before-call", self._before)
        emitter.register_last("after-call", self._after)
        return session

    def _parameters(self, params: Mapping[str, Any], **_event: Any) -> None:
        self._thread.parameters = copy.deepcopy(dict(params))

    def _before(self, model: Any, **_event: Any) -> tuple[AWSResponse, dict[str, Any]] | None:
        service = model.service_model.service_id.hyphenize()
        with self._lock:
            call = Call(len(self.calls) + 1, service, model.name, self._thread.parameters)
            self.calls.append(call)
        self._thread.call = call
        answer = self.behaviour.before(call)
        if answer is None:
            return None
        return AWSResponse("", answer.status, HTTPHeaders(), None), _parsed(answer, model)

    def _after(self, http_response: Any, parsed: dict[str, Any], model: Any, **_event: Any) -> None:
        answer = self.behaviour.after(self._thread.call, parsed)
        if answer is not None:
            http_response.status_code = answer.status
            parsed.clear()
            parsed.update(_parsed(answer, model))


def _parsed(answer: Answer, model: Any) -> dict[str, Any]:
    body = copy.deepcopy(dict(answer.body))
    if answer.status < 300:
        given = {key: value for key, value in body.items() if key != "ResponseMetadata"}
        if model.output_shape is not None:
            validate_parameters(given, model.output_shape)
        else:
            assert not given, f"{model.name} answers nothing"
    return {**body, "ResponseMetadata": {"HTTPStatusCode": answer.status, "RequestId": "made-by-a-test"}}


class Scripted(Behaviour):
    """Answers calls instead of a service, for features that no emulator has.

    script: per `service:Operation` a function of the parameters that returns the answer's body, or an Answer. Other
    calls go to the emulator where `passing` allows, else they fail the test.
    """

    def __init__(self, script: Mapping[str, Callable[..., Any]], *, passing: bool = False) -> None:
        self.script, self.passing = script, passing
        self._lock = threading.Lock()

    def before(self, call: Call) -> Answer | None:
        function = self.script.get(call.name)
        if function is None:
            assert self.passing, f"{call} is not in the script: {call.parameters}"
            return None
        with self._lock:
            answer = function(**call.parameters)
        return answer if isinstance(answer, Answer) else Answer(answer or {})


def read_timeout() -> Exception:
    return ReadTimeoutError(endpoint_url="https://service.invalid", error="made by a test")


def connection_reset() -> Exception:
    return ConnectionClosedError(endpoint_url="https://service.invalid", error="made by a test")


def unreachable() -> Exception:
    return EndpointConnectionError(endpoint_url="https://service.invalid", error="made by a test")
