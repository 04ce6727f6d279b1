# SPDX-License-Identifier: GPL-3.0-or-later
"""What the benchmark times of this collection: what the module `aws_stack` does when nothing has to change.

    python -m tests.benchmarks.aws.read PARAMETERS

reads the module's parameters as JSON from a file, and fails when anything differs.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.task import StackTask


def read_and_diff(task: StackTask) -> dict[str, Any]:
    """Read everything and compare it."""
    return task.run()


def main() -> int:
    parameters = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    result = read_and_diff(StackTask(parameters, check_mode=True))
    print(result["summary"])
    return int(result["changed"])


if __name__ == "__main__":
    sys.exit(main())
