# SPDX-License-Identifier: GPL-3.0-or-later
"""Property-based tests judge behaviour, not the speed of the machine that they run on."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "project",
    deadline=None,
    # A gate says the same of the same source each time; at a desk, each run looks at other examples.
    derandomize="CI" in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("project")
