# SPDX-License-Identifier: GPL-3.0-or-later
"""Prove that the timed code detects every change: each attribute is changed manually, and the code has to find it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import botocore.session

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.task import StackTask
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.errors import (
    DescriptionError,
    RefusedError,
)
from tests.benchmarks.aws.account import foundation, parameters
from tests.benchmarks.aws.edits.every import every_edit
from tests.benchmarks.aws.edits.hand import Altered, Edit
from tests.benchmarks.aws.read import read_and_diff
from tests.integration.aws.emulator import Emulator, shared_loader


@dataclass(frozen=True)
class Detection:
    """The edits that were found, and the findings instead of the others."""

    found: tuple[Edit, ...]
    missed: tuple[str, ...]


def detect(account: Emulator, tell: Callable[[str], None]) -> Detection:
    """Make every edit, read, and revert it. In the end there must be no difference."""
    with patch.object(botocore.session, "create_loader", shared_loader):
        outputs = StackTask(parameters(account, foundation()), check_mode=False).run()["outputs"]
        edits = every_edit(foundation(), outputs, account.client)
        found: list[Edit] = []
        missed: list[str] = []
        for edit in edits:
            seen = _seen(account, edit)
            if seen is None:
                found.append(edit)
            else:
                missed.append(f"{edit}: {seen}")
            tell(f"{edit}: {'found' if seen is None else 'MISSED, ' + seen}")
        left = _look(account, None)
        if left["changed"]:
            missed.append(f"what was taken back is still seen: {left['summary']}")
    return Detection(tuple(found), tuple(missed))


def _seen(account: Emulator, edit: Edit) -> str | None:
    """Return the findings instead of an edit, or None when exactly the edit was found."""
    edit.make()
    try:
        nodes = _look(account, edit.altered)["plan"]["nodes"]
    except (DescriptionError, RefusedError) as error:
        # A change that is neither an update nor a replacement is refused, with its name.
        refused = any(fault.address == edit.address and edit.covers(fault.path) for fault in error.faults)
        return None if refused and len(error.faults) == 1 else str(error)
    finally:
        edit.undo()
    changed = {node["address"]: [change["path"] for change in node["changes"]] for node in nodes if node["changes"]}
    if set(changed) == {edit.address} and any(map(edit.covers, changed[edit.address])):
        return None
    return str(changed or "no difference")


def _look(account: Emulator, altered: Altered | None) -> dict[str, Any]:
    """Run the timed code, with an edit in the answers."""
    task = StackTask(parameters(account, foundation()), check_mode=True)
    if altered is not None:
        _alter(task, altered)
    return read_and_diff(task)


def _alter(task: StackTask, altered: Altered) -> None:
    """Change every matching answer."""

    def asked(params: dict[str, Any], context: dict[str, Any], **_event: Any) -> None:
        context["asked"] = dict(params)

    def answered(parsed: dict[str, Any], context: dict[str, Any], **_event: Any) -> None:
        if altered.asked.items() <= context["asked"].items():
            altered.change(parsed)

    events, operation = task.session.client(altered.service).meta.events, f"{altered.service}.{altered.operation}"
    events.register(f"before-parameter-build.{operation}", asked)
    events.register(f"after-call.{operation}", answered)
