# SPDX-License-Identifier: GPL-3.0-or-later
"""The environment of every target of the Makefile."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def test_compiled_python_is_kept_whatever_the_environment_says() -> None:
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "LAKEHOUSE_ENVIRONMENT": "staging"}
    command = ["make", "--silent", "--no-print-directory", "--eval=show: ; @env", "show"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert "LAKEHOUSE_ENVIRONMENT=staging" in done.stdout.splitlines()
    assert "PYTHONDONTWRITEBYTECODE" not in done.stdout
