# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Delete objects in dependency order, and only the exact objects that were read before."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Executor
from dataclasses import replace

from ..client.client import Client
from ..client.discovery import Discovery
from ..client.errors import ApiError, KubeError, UnreachableError
from ..manifests.manifests import Identity
from ..manifests.order import is_built_in, removals
from ..ready.wait import wait_gone
from .explain import explained
from .judge import deleted
from .options import Options
from .prune import Member
from .results import ObjectResult


class Deleter:
    """Deletes members phase by phase. In a plan, sends dry runs instead."""

    def __init__(
        self,
        client: Client,
        discovery: Discovery,
        options: Options,
        pool: Executor,
        hide: Callable[[str], str] = str,
    ) -> None:
        self._client, self._discovery, self._options = client, discovery, options
        self._pool, self._hide = pool, hide
        self._lost = ""

    def delete(self, members: Collection[Member], reason: str = "") -> list[ObjectResult]:
        """Delete the members and return the result of each, even if some fail."""
        results: list[ObjectResult] = []
        stopped = ""
        for phase in removals(list(members)):
            if stopped:
                results += [ObjectResult(one.identity, "skipped", reason=stopped) for one in phase]
                continue
            done = list(self._pool.map(lambda one: self._deleted(one, reason), phase))
            done = self._awaited(phase, done)
            results += done
            hanging = [result for result in done if result.action == "failed"]
            if hanging and not is_built_in(phase[0]):
                # The controllers that would complete the deletion are in a later phase, and are kept for it.
                stopped = f"{hanging[0].identity} is still there"
        return results

    def _deleted(self, one: Member, reason: str) -> ObjectResult:
        if self._lost:
            return ObjectResult(one.identity, "skipped", reason=self._lost)
        started_s = time.monotonic()
        body = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {"uid": one.obj["metadata"]["uid"]},
            "propagationPolicy": "Background",
            **({"dryRun": ["All"]} if self._options.only_plans else {}),
        }
        result = deleted(one.identity, one.obj, reason)
        try:
            self._client.request("DELETE", one.path, body=body)
        except UnreachableError as error:
            self._lost = "the server cannot be reached any more"
            result = _failed(one, self._hide(str(error)))
        except ApiError as error:
            if error.is_conflict:
                why = "another one of this name was made in the meantime"
                result = ObjectResult(one.identity, "skipped", reason=why)
            elif not error.is_not_found:
                result = _failed(one, self._hide(str(explained(error, one.identity))))
        except KubeError as error:
            result = _failed(one, self._hide(str(error)))
        return replace(result, duration_s=time.monotonic() - started_s)

    def _awaited(self, phase: Sequence[Member], done: Sequence[ObjectResult]) -> list[ObjectResult]:
        """Wait for the deleted objects, if requested or if the next phase deletes controllers of their finalizers."""
        going = {result.identity for result in done if result.action == "delete"}
        waits = [one for one in phase if one.identity in going and (self._options.wait or _needs_controller(one))]
        if self._options.only_plans or not waits:
            return list(done)
        uids: dict[Identity, str] = {one.identity: one.obj["metadata"]["uid"] for one in waits}
        timeout_s = self._options.wait_timeout_s
        gone = wait_gone(self._client, self._discovery, list(uids), timeout_s, uids=uids)
        late = {
            one.identity: f"it is being deleted, and not gone after {timeout_s:.0f} s: {self._hide(one.status.reason)}"
            for one in gone
            if not one.is_ready and hasattr(one.status, "reason")
        }
        return [result.failed_because(late[result.identity]) if result.identity in late else result for result in done]


def _failed(one: Member, error: str) -> ObjectResult:
    return ObjectResult(one.identity, "failed", error=error)


def _needs_controller(one: Member) -> bool:
    """Return whether a custom resource waits for its operator, which may be deleted in the same run."""
    return not is_built_in(one) and bool(one.obj["metadata"].get("finalizers"))
