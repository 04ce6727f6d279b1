# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Send one server-side apply, and retry it while its dependencies are not yet available."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..client.client import APPLY, Answer, Client
from ..client.errors import ApiError
from .explain import is_unknown_field
from .options import Options

_PATIENCE_S = 20.0
_LONGEST_S = 2.0
_NO_ACCOUNT = "error looking up service account"


@dataclass(frozen=True)
class Circumstances:
    """Changes of this run that the server may not have propagated yet.

    fits_new_kind: returns whether the run created or changed the object's CRD, and the CRD has all fields. It is called
    only after a rejection. is_new_namespace: whether the run created the namespace, so that it has no service accounts
    yet.
    """

    fits_new_kind: Callable[[], bool] = lambda: False
    is_new_namespace: bool = False


class Applier:
    """Sends applies. sleep: for tests."""

    def __init__(self, client: Client, options: Options, sleep: Callable[[float], object] = time.sleep) -> None:
        self._client, self._sleep = client, sleep
        query = {"fieldManager": options.field_manager, "fieldValidation": "Strict"}
        query.update({"force": "true"} if options.force_conflicts else {})
        query.update({"dryRun": "All"} if options.only_plans else {})
        self._query = query

    def __call__(self, path: str, content: Mapping[str, Any], around: Circumstances) -> Answer:
        """Return the server's answer. Raises ApiError, UnreachableError."""
        until_s = time.monotonic() + _PATIENCE_S
        attempt = 0
        while True:
            try:
                return self._client.send("PATCH", path, query=self._query, body=content, content_type=APPLY)
            except ApiError as error:
                if not _passes(error, content, around) or time.monotonic() > until_s:
                    raise
            pause_s = min(_LONGEST_S, 0.1 * 2.0**attempt)
            # The random number is not a secret: it only distributes the requests of many threads.
            self._sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311
            attempt += 1


def _passes(error: ApiError, content: Mapping[str, Any], around: Circumstances) -> bool:
    """Return whether the error is temporary."""
    if error.is_conflict and not error.conflicts:
        # Another client wrote the object meanwhile. The apply does not depend on that, unless it specifies a version.
        return "resourceVersion" not in content["metadata"]
    if (error.is_not_found or is_unknown_field(error)) and around.fits_new_kind():
        return True
    return around.is_new_namespace and error.is_forbidden and _NO_ACCOUNT in error.message
