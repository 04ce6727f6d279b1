# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tokens that let an IAM identity into a cluster of EKS.

A token is a presigned GetCallerIdentity of STS in base64: EKS makes that call to learn who holds the token.
Source: the token format of aws-iam-authenticator, which EKS runs; `aws eks get-token` makes the same.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from typing import Any

PREFIX = "k8s-aws-v1."
# Signed with the request, so that a token for one cluster is of no use at another.
CLUSTER_HEADER = "x-k8s-aws-id"
EXPIRES_S = 60
_PARAMETER = "ClusterName"


def make_token(sts: Any, cluster: str) -> str:
    """Return a token for a cluster. sts: a client of STS, as `Session.client("sts")` returns it; it makes no call."""
    events = sts.meta.events
    # With an id of its own a handler is registered once, however often this is called.
    events.register("provide-client-params.sts.GetCallerIdentity", _take, unique_id="eks-token-take")
    events.register("before-sign.sts.GetCallerIdentity", _put, unique_id="eks-token-put")
    url = sts.generate_presigned_url(
        "get_caller_identity", Params={_PARAMETER: cluster}, ExpiresIn=EXPIRES_S, HttpMethod="GET"
    )
    return PREFIX + base64.urlsafe_b64encode(url.encode()).decode().rstrip("=")


def _take(params: dict[str, Any], context: dict[str, Any], **_event: Any) -> None:
    """Take the cluster out of the parameters, which STS does not know, to where the signer finds it."""
    if _PARAMETER in params:
        context[CLUSTER_HEADER] = params.pop(_PARAMETER)


def _put(request: Any, **_event: Any) -> None:
    """Put it into the request before that is signed."""
    if CLUSTER_HEADER in request.context:
        request.headers[CLUSTER_HEADER] = request.context[CLUSTER_HEADER]


class TokenSource:
    """Gives a token that is good for the next call: making one costs no call, so each is used for a short while."""

    def __init__(self, make: Callable[[], str], lifetime_s: float = EXPIRES_S / 2) -> None:
        self._make, self._lifetime_s = make, lifetime_s
        self._token, self._made_s = "", 0.0

    def __call__(self) -> str:
        now_s = time.monotonic()
        if not self._token or now_s - self._made_s >= self._lifetime_s:
            self._token, self._made_s = self._make(), now_s
        return self._token
