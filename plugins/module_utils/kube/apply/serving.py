# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wait for new kinds: the server serves a stored CRD after a short delay, and lists it in discovery after another."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from ..client.client import Client, look
from ..client.discovery import Discovery
from ..client.paths import path_of
from ..manifests.manifests import Identity
from ..manifests.schemas import DefinedKinds
from ..ready.verdict import conditions
from .before import Object

_DEFINITIONS = ("apis", "apiextensions.k8s.io", "v1", "customresourcedefinitions")
_LONGEST_S = 60.0
_PAUSE_S = 0.2


class ServedKinds:
    """Waits for the kinds that CRDs define. clock, sleep: for tests."""

    def __init__(
        self,
        client: Client,
        discovery: Discovery,
        kinds: DefinedKinds,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._client, self._discovery, self._kinds = client, discovery, kinds
        self._clock, self._sleep = clock, sleep

    def wait(self, made: Mapping[Identity, Object], timeout_s: float) -> dict[Identity, str]:
        """Wait until all kinds are established and discoverable. Return the reason for each that is not.

        made: the CRDs as the server returned them. Kinds that are already served require no request.
        """
        until_s = self._clock() + min(timeout_s, _LONGEST_S)
        pending, failed = dict(made), dict[Identity, str]()
        while True:
            for identity, crd in list(pending.items()):
                why = _refused(crd)
                if why:
                    failed[identity] = why
                if why or (_is_established(crd) and not self._unknown(identity)):
                    del pending[identity]
            if not pending or self._clock() >= until_s:
                break
            self._sleep(_PAUSE_S)
            self._look_again(pending)
        return failed | {identity: self._late(identity, crd) for identity, crd in pending.items()}

    def _look_again(self, pending: dict[Identity, Object]) -> None:
        for identity, crd in pending.items():
            if not _is_established(crd):
                pending[identity] = look(self._client, path_of(*_DEFINITIONS, identity.name)) or crd
        self._discovery.refresh()

    def _unknown(self, identity: Identity) -> list[str]:
        served = self._kinds.served_by(identity.name)
        return [f"{kind} ({version})" for version, kind in served if self._discovery.find(version, kind) is None]

    def _late(self, identity: Identity, crd: Object) -> str:
        if not _is_established(crd):
            said = conditions(crd).get("Established")
            return f"it was stored, but not established in time: {said or 'nothing is said about it'}"
        return f"it is established, but discovery does not show {', '.join(self._unknown(identity))} yet"


def _is_established(crd: Object) -> bool:
    said = conditions(crd).get("Established")
    return said is not None and said.is_true


def _refused(crd: Object) -> str:
    said = conditions(crd).get("NamesAccepted")
    return f"it was stored, but its names are not accepted: {said}" if said is not None and said.is_false else ""
