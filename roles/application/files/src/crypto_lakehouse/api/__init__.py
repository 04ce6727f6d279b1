# SPDX-License-Identifier: GPL-3.0-or-later
"""The HTTP API: health, metrics and queries."""

from __future__ import annotations
