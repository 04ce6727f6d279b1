# SPDX-License-Identifier: GPL-3.0-or-later
"""Read-only SQL over the gold tier, each statement in a locked process of its own.

The parent (`engine`) knows the platform, and never parses a statement. Processes are forked from `query_forkserver`,
which has seen no key; `sandbox` is what they do. `resident` keeps the small tables in memory, in processes without key
and network. `policy` decides what a statement may contain, `functions` which functions it may call. `pointers` asks
the catalog, `results` keeps answers, `fair_queue` decides who runs next.
"""

from __future__ import annotations
