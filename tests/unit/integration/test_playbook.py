# SPDX-License-Identifier: GPL-3.0-or-later
"""A playbook in a test has no time limit while it prints."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from tests.integration.playbook import played

PRINTS = "import time\nfor _ in range(12):\n    print('more', flush=True)\n    time.sleep(0.5)"


def test_what_prints_may_take_longer_than_it_may_be_silent(tmp_path: Path) -> None:
    begun_s = time.monotonic()
    run = played([sys.executable, "-c", PRINTS], tmp_path, os.environ, tmp_path / "output", silence_s=5.0)
    assert time.monotonic() - begun_s > 5.0
    assert (run.exit_code, run.output) == (0, "more\n" * 12)


def test_what_is_silent_is_ended(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import time; print('first', flush=True); time.sleep(3600)"]
    with pytest.raises(AssertionError, match=r"hangs\nfirst"):
        played(command, tmp_path, os.environ, tmp_path / "output", silence_s=5.0)
