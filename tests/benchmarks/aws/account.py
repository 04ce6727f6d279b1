# SPDX-License-Identifier: GPL-3.0-or-later
"""Common parts of the benchmark: the foundation, and the connection to an account of the emulator."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.crypto_lakehouse.platform.plugins.modules.aws_stack import ARGUMENT_SPEC
from tests.integration.aws.emulator import Emulator

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
STACK, ENVIRONMENT = "crypto-lakehouse", "benchmark"
# Of the three secrets; both sides get it.
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
    given = {
        "name": STACK,
        "environment": ENVIRONMENT,
        "resources": resources,
        "secret_values": {"value": SECRET},
        "state": state,
        "region": account.region,
        "access_key": access_key,
        "secret_key": secret_key,
        "endpoint_url": account.url,
        "parallelism": PARALLELISM,
    }
    checked = ArgumentSpecValidator(ARGUMENT_SPEC).validate(given)
    assert not checked.errors.messages, checked.errors.messages
    validated: dict[str, Any] = checked.validated_parameters
    return validated
