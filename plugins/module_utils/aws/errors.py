# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One error type for all failed calls to AWS: the call, the cause and the remedy."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..engine.errors import EngineError, OptionRemedy

if TYPE_CHECKING:
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

# The service did not start: the same call can be repeated.
# Source: botocore.retries.standard.ThrottledRetryableChecker, and the error pages of the services used here.
THROTTLED = frozenset(
    {
        "BandwidthLimitExceeded",
        "EC2ThrottledException",
        "LimitExceededException.Throttled",
        "PriorRequestNotComplete",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "TransactionInProgressException",
    }
)
# The effect is unknown: botocore's names of a lost connection, and 5xx answers.
# An answer of a proxy or a load balancer in front of the service also counts.
LOST = frozenset(
    {
        "ConnectionClosedError",
        "IncompleteReadError",
        "ReadTimeoutError",
        "ResponseParserError",
        "ResponseStreamingError",
    }
)
# The request did not reach the service.
UNSENT = frozenset({"ConnectTimeoutError", "EndpointConnectionError", "ProxyConnectionError"})
_DENIED = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "AuthorizationError",
        "AuthorizationErrorException",
        "NotAuthorized",
        "UnauthorizedOperation",
    }
)
# The position of the missing action in AWS's message: it can differ from the name of the call.
_PERFORM = re.compile(r"not authorized to perform:? ([a-z0-9-]+:[A-Za-z]+)")
# The header is a credential, and its spelling is not recognized by filters that mask credentials.
_HEADER = re.compile(r"Invalid header value .*", re.DOTALL)
_CREDENTIALS = frozenset(
    {
        "AuthFailure",
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "NoCredentialsError",
        "PartialCredentialsError",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
_LOG_IN = "log in: aws sso login --profile PROFILE"
_CHECK_CREDENTIALS = OptionRemedy(
    "check the credentials: profile, access_key, secret_key, session_token or the environment", "profile"
)
_NOT_AWS = OptionRemedy("the answer is not from AWS: check `endpoint_url`, the region and the proxy", "endpoint_url")
_UNREACHED = OptionRemedy("check the region, endpoint_url, the network and the proxy", "endpoint_url")
_REMEDIES = {
    "EndpointConnectionError": _UNREACHED,
    "ConnectTimeoutError": _UNREACHED,
    "HTTPClientError": "check the credentials for line breaks, endpoint_url and the proxy",
    "InvalidEndpoint": OptionRemedy("set the complete `endpoint_url`, such as https://service.example", "endpoint_url"),
    "InvalidRegionError": OptionRemedy("name a region, like eu-central-1", "region"),
    "NoRegionError": OptionRemedy("set region", "region"),
    "ProfileNotFound": OptionRemedy("name a profile of the AWS configuration files, or omit profile", "profile"),
    "PendingAuthorizationExpiredError": _LOG_IN,
    "SSOTokenLoadError": _LOG_IN,
    "TokenRetrievalError": _LOG_IN,
    "UnauthorizedSSOTokenError": _LOG_IN,
    "OptInRequired": "enable the region or the service for this account",
    "ResponseParserError": _NOT_AWS,
    "SSLError": "name the certificate authority in aws_ca_bundle",
}


# botocore's errors for a hostname that does not exist: the service or the region is missing.
_NOWHERE = frozenset({"EndpointConnectionError", "EndpointProviderError", "UnknownEndpointError"})


class CallError(EngineError):
    """Final failure of a call.

    call: as IAM writes it, `ec2:CreateVpc`. code: the service's code, or the name of botocore's exception.
    status: HTTP status, 0 without an answer. actions: IAM actions that the call needs.
    """

    def __init__(self, call: str, code: str, message: str, *, status: int = 0, actions: Sequence[str] = ()) -> None:
        self.call, self.code, self.message, self.status = call, code, message.strip(), status
        told = _PERFORM.search(message)
        self.actions = (told[1],) if told else tuple(actions) or (call,)
        super().__init__(self._text())

    @property
    def is_throttled(self) -> bool:
        return self.code in THROTTLED or self.status == 429

    @property
    def is_unsent(self) -> bool:
        return self.code in UNSENT

    @property
    def is_nowhere(self) -> bool:
        """Whether the service may not exist in the region: its hostname does not resolve."""
        return self.code in _NOWHERE

    @property
    def is_ambiguous(self) -> bool:
        """Whether the effect of the call is unknown."""
        return not self.is_throttled and (self.code in LOST or self.status >= 500)

    @property
    def is_denied(self) -> bool:
        return self.code in _DENIED

    def is_one_of(self, patterns: Sequence[str]) -> bool:
        """Return whether the error matches one of `CODE` or `CODE:words of the message`."""
        for pattern in patterns:
            code, _colon, words = pattern.partition(":")
            if self.code == code and words in self.message:
                return True
        return False

    @property
    def cause(self) -> str:
        """The call, its code and the message of the service."""
        return f"{self.call}: {self.code}: {self.message}" if self.message else f"{self.call}: {self.code}"

    @property
    def remedy(self) -> str:
        """The remedy; empty where the message is the only information."""
        if self.is_denied and "explicit deny" in self.message:
            return f"change the policy that denies {' and '.join(self.actions)}: allowing it does not help"
        if self.is_denied:
            return f"allow {' and '.join(self.actions)} to the identity that runs this"
        if self.code in _CREDENTIALS:
            return _CHECK_CREDENTIALS
        if self.code.isdigit() and ":Head" not in self.call:
            return _NOT_AWS
        return _REMEDIES.get(self.code, "")

    def _text(self) -> str:
        return f"{self.cause.rstrip('.')}; {self.remedy}" if self.remedy else self.cause


class WaitError(EngineError):
    """A resource did not reach the expected state."""


def call_error(
    call: str, error: ClientError | BotoCoreError | ResponseParserError, actions: Sequence[str] = ()
) -> CallError:
    """Return an exception of botocore as a CallError."""
    response = getattr(error, "response", None)
    if not isinstance(response, dict):
        return CallError(call, type(error).__name__, _HEADER.sub("Invalid header value", str(error)), actions=actions)
    details = response.get("Error", {})
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    code = str(details.get("Code") or response.get("__type") or status or "Unknown")
    return CallError(call, code, str(details.get("Message", "")), status=status, actions=actions)
