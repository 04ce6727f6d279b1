# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the timed part of this collection: the work of the module `aws_stack` without changes to make.

    python -m tests.benchmarks.aws.read PARAMETERS

It reads the module's parameters as JSON from a file, and fails if there is any difference.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.task import StackTask


def read_and_diff(task: StackTask) -> dict[str, Any]:
    """Read all resources and compare them."""
    return task.run()


def main() -> int:
    parameters = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    result = read_and_diff(StackTask(parameters, check_mode=True))
    print(result["summary"])
    return int(result["changed"])


if __name__ == "__main__":
    sys.exit(main())
