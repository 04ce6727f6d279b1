# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tokens that authenticate an IAM identity to an EKS cluster.

A token is a presigned GetCallerIdentity request of STS in base64. EKS sends it to learn the caller's identity.
Source: the token format of aws-iam-authenticator, which EKS runs; `aws eks get-token` returns the same.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from typing import Any

PREFIX = "k8s-aws-v1."
# The header is signed with the request, so that other clusters reject the token.
CLUSTER_HEADER = "x-k8s-aws-id"
EXPIRES_S = 60
_PARAMETER = "ClusterName"


def make_token(sts: Any, cluster: str) -> str:
    """Return a token for a cluster, without a call. sts: a client as `Session.client("sts")` returns it."""
    events = sts.meta.events
    # With its own id a handler is registered only once.
    events.register("provide-client-params.sts.GetCallerIdentity", _take, unique_id="eks-token-take")
    events.register("before-sign.sts.GetCallerIdentity", _put, unique_id="eks-token-put")
    url = sts.generate_presigned_url(
        "get_caller_identity", Params={_PARAMETER: cluster}, ExpiresIn=EXPIRES_S, HttpMethod="GET"
    )
    return PREFIX + base64.urlsafe_b64encode(url.encode()).decode().rstrip("=")


def _take(params: dict[str, Any], context: dict[str, Any], **_event: Any) -> None:
    """Move the cluster from the parameters, where STS rejects it, to the context of the request."""
    if _PARAMETER in params:
        context[CLUSTER_HEADER] = params.pop(_PARAMETER)


def _put(request: Any, **_event: Any) -> None:
    """Add the cluster's header before the request is signed."""
    if CLUSTER_HEADER in request.context:
        request.headers[CLUSTER_HEADER] = request.context[CLUSTER_HEADER]


class TokenSource:
    """Source of a valid token for the next call. New tokens need no call, so each is used for a short time."""

    def __init__(self, make: Callable[[], str], lifetime_s: float = EXPIRES_S / 2) -> None:
        self._make, self._lifetime_s = make, lifetime_s
        self._token, self._made_s = "", 0.0

    def __call__(self) -> str:
        now_s = time.monotonic()
        if not self._token or now_s - self._made_s >= self._lifetime_s:
            self._token, self._made_s = self._make(), now_s
        return self._token
