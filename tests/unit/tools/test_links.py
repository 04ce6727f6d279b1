# SPDX-License-Identifier: GPL-3.0-or-later
"""Links between the documents of the repository lead to a file and a heading that exist."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.sanity import tracked_files

REPOSITORY = Path(__file__).resolve().parents[3]
DOCUMENTS = [name for name in sorted(map(str, tracked_files())) if name.endswith(".md")]


def text(name: str) -> str:
    """Return a document without its blocks of code."""
    return re.sub(r"^```.*?^```", "", (REPOSITORY / name).read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)


def anchor(heading: str) -> str:
    """Return the anchor that code hosts give a heading."""
    shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", shown).replace(" ", "-")


def broken(name: str) -> Iterator[str]:
    """Yield every link of a document whose file or heading does not exist."""
    for link in re.findall(r"\]\(([^)\s]+)\)", text(name)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _hash, wanted = link.partition("#")
        target = os.path.normpath(Path(name).parent / path) if path else name
        headings = re.findall(r"^#+ (.*)$", text(target), re.MULTILINE) if target.endswith(".md") else []
        if not (REPOSITORY / target).exists() or (wanted and wanted not in map(anchor, headings)):
            yield link


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_somewhere(name: str) -> None:
    assert list(broken(name)) == []
