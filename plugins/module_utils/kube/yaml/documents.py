# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parse YAML or JSON text into documents as kubectl does, and report all of its faults."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from .composer import Composer
from .scalars import ScalarError, finite, whole

_ESCAPE = re.compile(r"\\[uU]")
_SEPARATOR = re.compile(r"^---(?=\s|\Z)", re.MULTILINE)
# A faster variant, which does not match at the start of a text.
_LATER_SEPARATOR = re.compile(r"\n---(?=\s|\Z)")
# The end of a document without the start of the next one, and directives, which belong to the next document.
_UNDIVIDED = ("...", "%")
# Other line breaks.
_BREAKS = ("\r", "\x85", "\u2028", "\u2029")
_KIND = "CustomResourceDefinition"
_DEFINITION = f"\nkind: {_KIND}\n"
# A smaller definition is parsed faster than it is read from a file.
_LARGE = 16_000


@dataclass(frozen=True)
class Document:
    """One document: its number in the text (from 1), its first line, and its content."""

    number: int
    line: int
    content: Any


@dataclass(frozen=True)
class Fault:
    """A fault of a text, with its document and line."""

    number: int
    line: int
    message: str


class Kept(Protocol):
    """A cache of values by the text that they were parsed from, shared between runs."""

    def get(self, text: str) -> Any:
        """Return the cached value of a text, or None."""

    def put(self, text: str, value: Any) -> None:
        """Cache a JSON value for a text."""


def read(text: str, *, is_json: bool = False, kept: Kept | None = None) -> tuple[list[Document], list[Fault]]:
    """Return the valid documents of a text that are not empty, and the faults of the others.

    is_json: whether the text is declared as JSON. Other text that begins like JSON is parsed as JSON first, as by
    kubectl. kept: large custom resource definitions that earlier runs parsed. They contain no secrets, and are most of
    a text.
    """
    text = text.removeprefix("\ufeff")
    if not is_json and not text.lstrip().startswith("{"):
        found = _read_yaml(text) if kept is None else _read_parts(text, kept)
        return _encodable(*found, text)
    documents, faults = _read_json(text)
    if documents is not None:
        return _encodable(documents, faults, text)
    # Invalid JSON may be YAML that begins with a brace, or JSON documents with separators between them.
    as_yaml, yaml_faults = _read_yaml(text)
    return ([], faults) if is_json and yaml_faults else _encodable(as_yaml, yaml_faults, text)


def _encodable(documents: list[Document], faults: list[Fault], text: str) -> tuple[list[Document], list[Fault]]:
    """Omit documents with surrogates, which only escapes can contain."""
    if not _ESCAPE.search(text):
        return documents, faults
    found = []
    for document in documents:
        try:
            json.dumps(document.content, ensure_ascii=False).encode()
            found.append(document)
        except UnicodeEncodeError:
            message = "an escape (\\uD800 to \\uDFFF) is half of a character; write the character itself"
            faults = [*faults, Fault(document.number, document.line, message)]
    return found, sorted(faults, key=lambda fault: fault.line)


def _read_json(text: str) -> tuple[list[Document] | None, list[Fault]]:
    """Return the documents, or None for invalid JSON, with the fault."""
    repeated: list[str] = []
    decoder = json.JSONDecoder(
        object_pairs_hook=lambda items: _pairs(items, repeated),
        parse_float=lambda number: whole(finite(float(number), number)),
        parse_constant=lambda name: finite(float(name), name),
    )
    documents: list[Document] = []
    faults: list[Fault] = []
    place = _behind_space(text, 0)
    while place < len(text):
        number, line = len(documents) + 1, text.count("\n", 0, place) + 1
        try:
            content, end = decoder.raw_decode(text, place)
        except json.JSONDecodeError as error:
            return None, [Fault(number, error.lineno, f"it is not JSON: {error.msg}")]
        except (ScalarError, RecursionError) as error:
            reason = "it is nested too deep" if isinstance(error, RecursionError) else str(error)
            return [], [Fault(number, line, reason)]
        faults += [Fault(number, line, f"the key {key!r} is given twice") for key in dict.fromkeys(repeated)]
        repeated.clear()
        documents.append(Document(number, line, content))
        place = _behind_space(text, end)
    broken = {fault.number for fault in faults}
    return [found for found in documents if found.content is not None and found.number not in broken], faults


def _pairs(items: Sequence[tuple[str, Any]], repeated: list[str]) -> dict[str, Any]:
    found = dict(items)
    if len(found) < len(items):
        seen: set[str] = set()
        for key, _value in items:
            if key in seen:
                repeated.append(key)
            seen.add(key)
    return found


def _behind_space(text: str, place: int) -> int:
    while place < len(text) and text[place] in " \t\r\n":
        place += 1
    return place


@dataclass(frozen=True)
class _Part:
    """A part of a text with one or more documents. is_definition: whether it is one large CRD."""

    start: int
    end: int
    is_definition: bool


def _parts(text: str) -> Iterator[_Part]:
    """Yield the large definitions of a text, and the parts between them."""
    begun, places = 0, list[int]()
    if not text.startswith(_UNDIVIDED) and not any(
        mark in text for mark in (*(f"\n{mark}" for mark in _UNDIVIDED), *_BREAKS)
    ):
        places = [match.start() + 1 for match in _LATER_SEPARATOR.finditer(text)]
    for start, end in zip([0, *places], [*places, len(text)], strict=True):
        if end - start < _LARGE or text.find(_DEFINITION, start, end) < 0 or _ESCAPE.search(text, start, end):
            continue
        if begun < start:
            yield _Part(begun, start, False)
        yield _Part(start, end, True)
        begun = end
    if begun < len(text):
        yield _Part(begun, len(text), False)


def _read_parts(text: str, kept: Kept) -> tuple[list[Document], list[Fault]]:
    """Parse a text as _read_yaml does, but parse only those large definitions that are not cached."""
    documents: list[Document] = []
    number, offset = 1, 0
    for part in _parts(text):
        of_part = text[part.start : part.end]
        value = kept.get(of_part) if part.is_definition else None
        if value is None:
            found = _read_faultless(of_part, number, offset)
            if found is None:
                # Messages about a fault depend on the text after it, so the whole text is parsed.
                return _read_yaml(text)
            if part.is_definition and len(found) == 1 and _is_definition(found[0].content):
                kept.put(of_part, [found[0].line - offset, found[0].content])
        else:
            found = [Document(number, offset + value[0], value[1])]
        documents += [document for document in found if document.content is not None]
        number, offset = number + len(found), offset + of_part.count("\n")
    return documents, []


def _is_definition(content: Any) -> bool:
    return isinstance(content, dict) and content.get("kind") == _KIND


def _read_faultless(text: str, number: int, offset: int) -> list[Document] | None:
    """Return the documents of a text, including empty ones, or None if it has a fault."""
    from yaml import YAMLError

    composer = Composer(text, number, offset)
    try:
        found = [Document(*document) for document in composer.documents()]
    except YAMLError:
        return None
    return None if composer.faults else found


def _read_yaml(text: str) -> tuple[list[Document], list[Fault]]:
    """Parse all documents. After an invalid document, continue at the next separator."""
    from yaml import YAMLError
    from yaml.reader import ReaderError

    documents: list[Document] = []
    faults: list[Fault] = []
    start, number, offset = 0, 1, 0
    while True:
        composer = Composer(text[start:] if start else text, number, offset)
        behind = None
        try:
            for found_number, line, content in composer.documents():
                if content is not None:
                    documents.append(Document(found_number, line, content))
        except ReaderError:
            return documents, [*faults, *(Fault(*fault) for fault in composer.faults), _odd_character(composer, text)]
        except YAMLError as error:
            faults.append(_syntax_fault(composer, text, error))
            behind = _SEPARATOR.search(text, _line_start(text, composer.line) + 1)
        faults += [Fault(*fault) for fault in composer.faults]
        if behind is None:
            return documents, sorted(faults, key=lambda fault: fault.line)
        start, number, offset = behind.start(), composer.number + 1, text.count("\n", 0, behind.start())


def _line_start(text: str, line: int) -> int:
    """Return the position of a line's start. The first line is 1."""
    place = 0
    for _count in range(line - 1):
        place = text.find("\n", place) + 1
    return place


def _odd_character(composer: Composer, text: str) -> Fault:
    from yaml.reader import Reader

    # The two parsers report different positions.
    found = Reader.NON_PRINTABLE.search(text)
    line = text.count("\n", 0, found.start()) + 1 if found else composer.line
    what = f"U+{ord(found[0]):04X} is not permitted in YAML" if found else "a character is incomplete"
    return Fault(composer.number, line, f"it is not YAML: {what}; write it as an escape between double quotes")


def _syntax_fault(composer: Composer, text: str, error: Any) -> Fault:
    mark = error.problem_mark or error.context_mark
    lines = text.splitlines()
    # An unclosed construct is reported after the last line.
    line = max(1, min(composer.offset + mark.line + 1, len(lines)))
    near = lines[max(0, line - 2) : line + 1]
    began = error.context_mark.line + composer.offset + 1 if error.context_mark else line
    context = f"{error.context}{f' that begins in line {began}' if began != line else ''}" if error.context else ""
    said = ": ".join(part for part in (context, error.problem) if part)
    hint = ""
    if any(mark in given for given in near for mark in ("{{", "{%")):
        hint = "; it looks like a template: render it first, as lookup('ansible.builtin.template', PATH) does"
    return Fault(composer.number, line, f"it is not YAML: {said}{hint}")
