# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls `lakehouse_job` once, as Ansible does on a host: parameters as JSON on standard input, the result on output."""

from __future__ import annotations

import json
import sys

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.jobs.task import outcome
from ansible_collections.crypto_lakehouse.platform.plugins.modules.lakehouse_job import ARGUMENT_SPEC

if __name__ == "__main__":
    given = json.load(sys.stdin)
    check_mode = given.pop("_check_mode", False)
    validated = ArgumentSpecValidator(ARGUMENT_SPEC).validate(given)
    assert not validated.error_messages, validated.error_messages
    print(json.dumps(outcome(validated.validated_parameters, check_mode=check_mode)))
