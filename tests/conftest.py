# SPDX-License-Identifier: GPL-3.0-or-later
"""Every test of this folder runs on a sample that a printed seed selects."""

from __future__ import annotations

pytest_plugins = ["tests.sweep"]
