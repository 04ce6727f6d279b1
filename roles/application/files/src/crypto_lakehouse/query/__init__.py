# SPDX-License-Identifier: GPL-3.0-or-later
"""Read-only SQL over the gold tier, each statement in a locked process of its own.

The parent (`engine`) knows the platform, and never parses a statement. Processes are forked from `query_forkserver`,
which has no key; `sandbox` is their code. `resident` keeps the small tables in memory, in processes without key and
network. `policy` limits the content of statements, `functions` the functions. `pointers` reads table versions from the
catalog, `results` caches results, `fair_queue` schedules queries.
"""

from __future__ import annotations
