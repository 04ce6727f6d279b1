# SPDX-License-Identifier: GPL-3.0-or-later
"""Write docs/variables.md from the inventory variables that the collection checks, or report that it is out of date."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / ".venv" / "collections"))

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.inventory.variables import VARIABLES  # noqa: E402

PAGE = ROOT / "docs" / "variables.md"
HEAD = """# Inventory variables

Set them in an inventory, in group variables, or with `-e`. Preflight checks all of them before the first
change. It also rejects names with the prefix `lakehouse_` that are not in this table, to catch typos.

| variable | default | description |
|---|---|---|
"""


def page() -> str:
    """Return the text of the page."""
    rows = []
    for variable in VARIABLES:
        default = "required" if variable.required else f"`{json.dumps(variable.default)}`"
        rows.append(f"| `{variable.name}` | {default} | {variable.purpose} |\n")
    return HEAD + "".join(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page; with --check, return 1 when the page on disk differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing")
    options = parser.parse_args(arguments)
    if not options.check:
        PAGE.write_text(page(), encoding="utf-8")
    elif PAGE.read_text(encoding="utf-8") != page():
        print("docs/variables.md is out of date; run tools/write_variables.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
