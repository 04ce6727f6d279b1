# SPDX-License-Identifier: GPL-3.0-or-later
"""Write docs/kinds.md from the schemas of AWS kinds, or report that it is outdated."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / ".venv" / "collections"))

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.registry import KINDS, kind_class  # noqa: E402

if TYPE_CHECKING:
    from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.kind import AwsKind
    from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.schema import Property

PAGE = ROOT / "docs" / "kinds.md"
HEAD = """# Kinds of AWS resources

Kinds of resources that the module `aws_stack` manages. A resource has `kind`, `name` and `properties`, and optionally
`depends_on`, `adopt` and `protect`. `${kind.name.OUTPUT}` refers to an output of another resource, or to a property
that does not change *later*.

An omitted property has its default; a dash means no value. *chosen by AWS*: unmanaged if omitted.

Effect of a change:

- *in place*: the resource is updated.
- *replaces*: the resource is replaced.
- *may replace*: the resource is updated or replaced, depending on the values.
- *later*: the property is updated after both ends of its references exist.
- *not compared*: the property is only used at creation, or by the named component.

A *secret* is compared by version and never shown.
"""


def page() -> str:
    """Return the page as text."""
    names = sorted(KINDS)
    contents = " · ".join(f"[{name}](#{name})" for name in names)
    return "\n".join([HEAD, contents, "", *(section(kind_class(name)) for name in names)])


def section(kind: type[AwsKind]) -> str:
    """Return the section of one kind."""
    schema = kind.schema
    notes = [(kind.__doc__ or "").strip()]
    if schema.protected:
        notes.append("Contains data: a deletion or replacement requires `protect: false` or `unprotect`.")
    if schema.locked_by:
        notes.append(f"A plan that deletes or replaces it is refused while `{schema.locked_by}` is true in AWS.")
    if kind.retires:
        notes.append("A deletion is scheduled, and cancelled when the resource is described again.")
    if schema.spans_regions:
        notes.append("Spans the regions of an account; its tag `lakehouse:region` names the owning region.")
    relations = [" and ".join(f"`{name}`" for name in relation) for relation in schema.exclusive_relations]
    if relations:
        notes.append(f"Must be unique: {', and separately '.join(relations)}.")
    lines = [
        f"## {kind.name}",
        "",
        " ".join(notes),
        "",
        "| property | type | default | effect of a change | description |",
    ]
    lines += ["|---|---|---|---|---|", *rows(schema.properties)]
    lines += ["", "| output | description |", "|---|---|"]
    lines += [f"| `{name}` | {output.purpose} |" for name, output in schema.outputs.items()]
    actions = {action for names in (kind.actions.create, kind.actions.update, kind.actions.delete) for action in names}
    reading = {*kind.actions.read, *kind.actions.list}
    lines += ["", f"IAM actions to read: {_listed(reading)}.", ""]
    lines += [f"Additional IAM actions to create, update and delete: {_listed(actions - reading)}.", ""]
    return "\n".join(lines)


def rows(properties: Mapping[str, Property], above: str = "", owner: Property | None = None) -> Iterator[str]:
    """Yield a row for each property and each nested property."""
    for name, item in properties.items():
        path = f"{above}{name}"
        cells = (f"`{path}`", _type(item), _default(item), _change(item, owner), _meaning(item))
        yield f"| {' | '.join(cells)} |"
        outer = item if owner is None or item.replace or item.deferred or item.owned_by else owner
        yield from rows(item.fields, f"{path}.", outer)
        if item.elements is not None:
            yield from rows(item.elements.fields, f"{path}.*." if item.type == "map" else f"{path}[].", outer)


def _type(item: Property) -> str:
    inner = item.elements
    return f"{item.type} of {inner.type}" if inner is not None and not inner.fields else item.type


def _default(item: Property) -> str:
    if item.required:
        return "required"
    if item.computed:
        return "chosen by AWS"
    value = item.default if item.default is not None else item.when_unset
    return "-" if value is None else f"`{json.dumps(value)}`"


def _change(item: Property, owner: Property | None) -> str:
    governing = item if owner is None or item.replace or item.deferred or item.owned_by else owner
    if governing.owned_by:
        return f"not compared: {governing.owned_by}"
    if governing.deferred:
        return "later"
    if callable(governing.replace):
        return "may replace"
    return "replaces" if governing.replace else "in place"


def _meaning(item: Property) -> str:
    parts = [item.purpose]
    if item.sensitive:
        parts.append("A secret.")
    if item.choices:
        parts.append(f"One of {', '.join(f'`{choice}`' for choice in item.choices)}.")
    return " ".join(filter(None, parts)).replace("|", "\\|")


def _listed(actions: set[str]) -> str:
    return ", ".join(f"`{action}`" for action in sorted(actions)) or "none"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page; with --check, return 1 when the page on disk differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing")
    options = parser.parse_args(arguments)
    if not options.check:
        PAGE.write_text(page(), encoding="utf-8")
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != page():
        print("docs/kinds.md is out of date; run tools/write_kinds.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
