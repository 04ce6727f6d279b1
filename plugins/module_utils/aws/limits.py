from __future__ import annotations
def limit_faults(address, kind, desired):
    return []
