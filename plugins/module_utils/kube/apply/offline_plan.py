# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Predict an apply without the server: for objects with planned dependencies, and where a webhook rejects dry runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..client.errors import ApiError
from ..manifests.offline import validation_errors
from ..manifests.schemas import Schemas
from .compare import content as content_of
from .compare import merged
from .explain import is_unknown_field, webhook_without_dry_run
from .judge import compared, created
from .results import ObjectResult
from .targets import Target

_SHOWN = 12


class Foresight:
    """Validates objects with schemas. sources: of the schemas, the most accurate first."""

    def __init__(self, *sources: Schemas) -> None:
        self._sources = sources

    def created(self, target: Target, content: Mapping[str, Any]) -> ObjectResult:
        """Return the result of an object whose CRD, namespace or cluster is only planned."""
        wrong = self._wrong(target, content)
        if wrong:
            return ObjectResult(target.identity, "failed", error=wrong, reason=target.planned)
        return created(
            target.identity, content, content, reason=target.planned, with_status=target.resource.keeps_status
        )

    def instead(
        self, target: Target, content: Mapping[str, Any], before: Mapping[str, Any] | None, error: ApiError
    ) -> ObjectResult:
        """Return a prediction instead of a failed dry run. Raises its error where it would also fail the apply."""
        webhook = webhook_without_dry_run(error)
        if webhook:
            reason = f"the webhook {webhook} does not allow dry runs: checked against the schema alone"
        elif is_unknown_field(error) and self._sources[0].find(target.api_version, target.kind) is not None:
            reason = "its CRD is only planned to change: checked against the new schema"
        else:
            raise error
        wrong = self._wrong(target, content)
        if wrong:
            return ObjectResult(target.identity, "failed", error=wrong, reason=reason)
        warnings = (f"{target.identity}: {reason}",) if webhook else ()
        with_status = target.resource.keeps_status
        if before is None:
            new = created(target.identity, content, content, reason=reason, with_status=with_status)
            return replace(new, warnings=warnings)
        after = merged(content_of(before, with_status=with_status), content)
        result = compared(target.identity, before, after, content, with_status=with_status)
        return replace(result, reason=reason, warnings=warnings)

    def _wrong(self, target: Target, content: Mapping[str, Any]) -> str:
        found = (source.find(target.api_version, target.kind) for source in self._sources)
        schema = next((schema for schema in found if schema is not None), None)
        wrong = validation_errors(schema, content) if schema is not None else ()
        more = f"; and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        return "; ".join(map(str, wrong[:_SHOWN])) + more
