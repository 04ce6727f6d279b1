# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a call to AWS can come to, as one type that says what was called, what went wrong and what to do."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..engine.errors import EngineError, OptionRemedy

if TYPE_CHECKING:
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

# The service did not even begin: the call can be made again as it is.
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
# Nobody knows whether the service did it: botocore's names of a lost connection, and 5xx answers.
# What is no answer of the service at all is the page of a proxy or a load balancer in front of it.
LOST = frozenset(
    {
        "ConnectionClosedError",
        "IncompleteReadError",
        "ReadTimeoutError",
        "ResponseParserError",
        "ResponseStreamingError",
    }
)
# The call never left, or never arrived.
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
# Where AWS says which action was missing: it is not always the one that the call is named after.
_PERFORM = re.compile(r"not authorized to perform:? ([a-z0-9-]+:[A-Za-z]+)")
# The header is a credential, and spelled in a way that nobody who hides credentials would recognise.
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
_NOT_AWS = OptionRemedy("that is no answer of AWS: check endpoint_url, the region and the proxy", "endpoint_url")
_UNREACHED = OptionRemedy("check the region, endpoint_url, the network and the proxy", "endpoint_url")
_REMEDIES = {
    "EndpointConnectionError": _UNREACHED,
    "ConnectTimeoutError": _UNREACHED,
    "HTTPClientError": "check the credentials for line breaks, endpoint_url and the proxy",
    "InvalidEndpoint": OptionRemedy("give endpoint_url as a whole, like https://service.example", "endpoint_url"),
    "InvalidRegionError": OptionRemedy("name a region, like eu-central-1", "region"),
    "NoRegionError": OptionRemedy("set region", "region"),
    "ProfileNotFound": OptionRemedy("name a profile of the AWS configuration files, or leave profile out", "profile"),
    "PendingAuthorizationExpiredError": _LOG_IN,
    "SSOTokenLoadError": _LOG_IN,
    "TokenRetrievalError": _LOG_IN,
    "UnauthorizedSSOTokenError": _LOG_IN,
    "OptInRequired": "enable the region or the service for this account",
    "ResponseParserError": _NOT_AWS,
    "SSLError": "name the certificate authority in aws_ca_bundle",
}


# How botocore says that nobody has the name of the service in this region, or that there is no such name.
_NOWHERE = frozenset({"EndpointConnectionError", "EndpointProviderError", "UnknownEndpointError"})


class CallError(EngineError):
    """A call that failed for good.

    call: as IAM writes it, `ec2:CreateVpc`. code: the service's, or the name of botocore's exception.
    status: of HTTP, 0 where there was no answer. actions: the IAM actions that the call needs.
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
        """Whether there may be no such service in the region: its name, at least, leads nowhere."""
        return self.code in _NOWHERE

    @property
    def is_ambiguous(self) -> bool:
        """Whether nobody can say if the call had its effect."""
        return not self.is_throttled and (self.code in LOST or self.status >= 500)

    @property
    def is_denied(self) -> bool:
        return self.code in _DENIED

    def is_one_of(self, patterns: Sequence[str]) -> bool:
        """Return whether it is one of `CODE` or `CODE:words of the message`."""
        for pattern in patterns:
            code, _colon, words = pattern.partition(":")
            if self.code == code and words in self.message:
                return True
        return False

    @property
    def cause(self) -> str:
        """The call, its code and the service's message."""
        return f"{self.call}: {self.code}: {self.message}" if self.message else f"{self.call}: {self.code}"

    @property
    def remedy(self) -> str:
        """What to do about it; empty where only the message says it."""
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
    """Something did not become what was waited for."""


def call_error(
    call: str, error: ClientError | BotoCoreError | ResponseParserError, actions: Sequence[str] = ()
) -> CallError:
    """Return botocore's exception as a CallError."""
    response = getattr(error, "response", None)
    if not isinstance(response, dict):
        return CallError(call, type(error).__name__, _HEADER.sub("Invalid header value", str(error)), actions=actions)
    details = response.get("Error", {})
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    code = str(details.get("Code") or response.get("__type") or status or "Unknown")
    return CallError(call, code, str(details.get("Message", "")), status=status, actions=actions)
