# SPDX-License-Identifier: GPL-3.0-or-later
"""The application that a crypto lakehouse runs: API, flows, bootstrap and verification."""

from __future__ import annotations
