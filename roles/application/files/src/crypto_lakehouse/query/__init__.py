# SPDX-License-Identifier: GPL-3.0-or-later
"""Read-only SQL over the gold tier, each statement in a locked process of its own.

The parent (`engine`) knows the platform; the child (`sandbox`) knows one statement, read-only keys of gold and
the addresses of the tables that the statement names. `policy` decides what a statement may contain.
"""

from __future__ import annotations
