# SPDX-License-Identifier: GPL-3.0-or-later
"""Start moto without work that it repeats for each request and for each account.

For each request it lists its folders and methods, and logs: a third of the CPU time. For each account it reads the
managed policies of AWS five times, once per partition: half a second.
"""

from __future__ import annotations

import copy
import functools
import json
from typing import Any

from moto import backends
from moto.core import responses
from moto.core.utils import method_names_from_class
from moto.iam.aws_managed_policies import aws_managed_policies_data
from moto.iam.models import AWSManagedPolicy, IAMBackend
from moto.moto_server.werkzeug_app import MotoRequestHandler
from moto.server import main

# The partition of the tests.
_PARTITION = "aws"


@functools.cache
def _managed_policies() -> list[Any]:
    described = json.loads(aws_managed_policies_data)
    return [AWSManagedPolicy.from_data(name, "aws", _PARTITION, policy) for name, policy in described.items()]


def managed_policies(backend: IAMBackend) -> list[Any]:
    """Return copies of the managed policies of AWS: an account counts its attachments."""
    if backend.region_name != _PARTITION:
        return []
    copies = [copy.copy(policy) for policy in _managed_policies()]
    for policy in copies:
        policy.account_id = backend.account_id
    return copies


def prepare() -> None:
    """Let moto compute values once that are equal for each request and each account."""
    modules = frozenset(backends.list_of_moto_modules())
    replacements: tuple[tuple[Any, str, Any], ...] = (
        (backends, "list_of_moto_modules", lambda: modules),
        (responses, "method_names_from_class", functools.cache(method_names_from_class)),
        (MotoRequestHandler, "log_request", lambda *_arguments: None),
        (IAMBackend, "_init_aws_policies", managed_policies),
    )
    for place, name, replacement in replacements:
        setattr(place, name, replacement)


if __name__ == "__main__":
    prepare()
    main()
