# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Apply objects and take over fields of other managers: first change the owners, then apply. A plan changes neither."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..client.client import JSON_PATCH, MERGE, Answer, Client, look
from ..client.errors import ApiError, KubeError
from .compare import content as content_of
from .options import Options
from .patch import Applier, Circumstances
from .take_over import CLIENT_SIDE_APPLY, TakeOver, applied, merge_patch, take_over, without_taken

_ATTEMPTS = 5


class Adopter:
    """Sender of the requests of a takeover. Safe to use from several threads."""

    def __init__(self, client: Client, options: Options, applier: Applier) -> None:
        self._client, self._options, self._applier = client, options, applier

    def find(self, before: Mapping[str, Any] | None, content: Mapping[str, Any]) -> TakeOver | None:
        """Return the fields that an apply takes over from other managers, or None without such fields."""
        if before is None:
            return None
        return take_over(before, content, self._options.field_manager, self._options.adopted_managers)

    def apply(
        self, path: str, before: Mapping[str, Any], content: Mapping[str, Any], around: Circumstances, taken: TakeOver
    ) -> Answer:
        """Apply and return the server's answer. Raises ApiError, and KubeError where force_conflicts is required."""
        self._check(taken)
        if self._options.only_plans:
            return self._planned(path, before, content, around, taken)
        self._change_owner(path, before, content, taken)
        return self._applier(path, content, around)

    def _check(self, taken: TakeOver) -> None:
        if taken.renumbered and not self._options.force_conflicts:
            fields = ", ".join(one.field for one in taken.renumbered)
            raise KubeError(
                f"cannot apply over {fields}: another manager gave an element of the manifest another key; put that "
                "into the manifest, or adopt it with `force_conflicts`"
            )

    def _change_owner(
        self, path: str, before: Mapping[str, Any], content: Mapping[str, Any], taken: TakeOver | None
    ) -> None:
        """Transfer the fields to our manager.

        The content of the object stays the same: the apply that follows changes it in one step.
        """
        live: Mapping[str, Any] | None = before
        for attempt in range(1, _ATTEMPTS + 1):
            if live is None or taken is None:
                return
            query = {"fieldManager": self._options.field_manager}
            try:
                self._client.request("PATCH", path, query=query, body=taken.patch(live), content_type=JSON_PATCH)
            except ApiError as error:
                if not error.is_conflict or attempt == _ATTEMPTS:
                    raise
            else:
                return
            live = look(self._client, path)
            taken = self.find(live, content)

    def _planned(
        self, path: str, before: Mapping[str, Any], content: Mapping[str, Any], around: Circumstances, taken: TakeOver
    ) -> Answer:
        """Return the object that the server would store. A dry run cannot change the owner of a field."""
        if not taken.renumbered:
            self._check_conflicts(path, content, around)
        # The first set is that of our manager. An apply removes its fields that the manifest omits, whether taken over
        # or not.
        ours, *others = sets = [entry.get("fieldsV1") or {} for entry in taken.managed_fields]
        after = applied(without_taken(before, content, ours, others), content, sets)
        body = merge_patch(content_of(before), content_of(after))
        if not body:
            return Answer(200, before)
        query = {"fieldManager": self._options.field_manager, "fieldValidation": "Strict", "dryRun": "All"}
        return self._client.send("PATCH", path, query=query, body=body, content_type=MERGE, repeat=True)

    def _check_conflicts(self, path: str, content: Mapping[str, Any], around: Circumstances) -> None:
        """Raise ApiError where the server would reject the apply, except for fields of replaced managers.

        The next request validates the object without these fields.
        """
        adopted = {CLIENT_SIDE_APPLY, *self._options.adopted_managers}
        try:
            self._applier(path, content, around)
        except ApiError as error:
            is_of_adopted = all(conflict.manager in adopted for conflict in error.conflicts)
            if error.status != 422 and not (error.conflicts and is_of_adopted):
                raise
