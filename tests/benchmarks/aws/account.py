# SPDX-License-Identifier: GPL-3.0-or-later
"""What is common to all parts of the benchmark: the foundation, and how an account of the emulator is reached."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import yaml

from tests.integration.aws.emulator import Emulator

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
STACK, ENVIRONMENT = "crypto-lakehouse", "benchmark"
# Of the three secrets; both sides are given it.
SECRET = "what-the-benchmark-keeps-to-itself"
PARALLELISM = 16


@functools.cache
def foundation() -> list[dict[str, Any]]:
    """Return the resources of the foundation."""
    described: list[dict[str, Any]] = yaml.safe_load((HERE / "foundation.yml").read_text("utf-8"))["foundation"]
    return described


def parameters(account: Emulator, resources: list[dict[str, Any]], state: str = "present") -> dict[str, Any]:
    """Return the parameters of the module `aws_stack`, as its argument specification leaves them."""
    access_key, secret_key = account.key
    return {
        "name": STACK,
        "environment": ENVIRONMENT,
        "resources": resources,
        "secret_values": {"value": SECRET},
        "state": state,
        "prune": False,
        "adopt": False,
        "unprotect": [],
        "plan": None,
        "plan_path": None,
        "page_path": None,
        "availability_zones": [],
        "account_id": None,
        "region": account.region,
        "profile": None,
        "access_key": access_key,
        "secret_key": secret_key,
        "session_token": None,
        "assume_role_arn": None,
        "external_id": None,
        "endpoint_url": account.url,
        "validate_certs": True,
        "aws_ca_bundle": None,
        "parallelism": PARALLELISM,
    }
