# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compose documents from the events of a YAML parser.

PyYAML's own loaders first compose a tree of nodes, which takes most of the time and loses duplicate keys. Only the
parser of PyYAML is used: the C parser if available. It is libyaml, and kubectl's parser is a port of libyaml.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

from .scalars import HINTS, ScalarError, plain, plain_key, tagged, tagged_key

# Twice the depth of the deepest CRDs. Recursive functions can process such objects.
DEEPEST = 200
# A few lines of anchors can expand to more than any memory holds. kubectl has the same limit.
MOST_BY_ALIASES = 400_000
_MERGE = "<<"
_MERGE_KEY = object()
_TEMPLATE = "if it is a template ('{{ ... }}'), render it first, else quote it"
_MAPPINGS = frozenset({None, "tag:yaml.org,2002:map"})
_SEQUENCES = frozenset({None, "tag:yaml.org,2002:seq"})


class _Frame:
    """A mapping or a sequence that is being read.

    wants_key: whether a key is next. key: of the next value; None for an unusable key. is_merge: whether the key is
    `<<`. merged: keys from `<<`, which may occur once more. start: number of values before this one.
    """

    __slots__ = ("anchor", "is_merge", "key", "mapping", "merged", "sequence", "start", "wants_key")

    def __init__(self, is_mapping: bool, anchor: str | None, start: int) -> None:
        self.mapping: dict[str, Any] | None = {} if is_mapping else None
        self.sequence: list[Any] = []
        self.anchor, self.start = anchor, start
        self.key: str | None = None
        self.wants_key = is_mapping
        self.is_merge = False
        self.merged: set[str] | None = None

    @property
    def value(self) -> Any:
        return self.sequence if self.mapping is None else self.mapping


class Composer:
    """Composer of one text. number, line: of the current document. offset: lines of the file before this text.

    faults: problems other than syntax errors, as (number of the document, line, message).
    """

    def __init__(self, text: str, number: int = 1, offset: int = 0) -> None:
        import yaml

        loader: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
        self.number, self.offset, self.line = number, offset, offset + 1
        self.faults: list[tuple[int, int, str]] = []
        self._make_parser: Callable[[], Any] = lambda: loader(text)
        self._next_event: Callable[[], Any] = lambda: None
        self._words: dict[str, Any] = {}
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._count = self._by_aliases = 0

    def documents(self) -> Iterator[tuple[int, int, Any]]:
        """Yield (number, line, content) of every document without a fault. Raises yaml.YAMLError."""
        from yaml.events import DocumentStartEvent, StreamEndEvent

        self._next_event = self._make_parser().get_event
        begun = False
        while True:
            event = self._next_event()
            if isinstance(event, StreamEndEvent | None):
                return
            if isinstance(event, DocumentStartEvent):
                self.number += 1 if begun else 0
                begun = True
                self.line = self._line(event)
                self._anchors.clear()
                self._count = self._by_aliases = 0
                faults = len(self.faults)
                content = self._document()
                if len(self.faults) == faults:
                    yield self.number, self.line, content

    def _document(self) -> Any:
        """Return the content of the document whose start event was just read."""
        from yaml.events import AliasEvent, MappingStartEvent, ScalarEvent, SequenceStartEvent

        stack: list[_Frame] = []
        while True:
            event = self._next_event()
            kind = type(event)
            if kind is ScalarEvent:
                value = self._key(event) if stack and stack[-1].wants_key else self._scalar(event)
            elif kind is MappingStartEvent or kind is SequenceStartEvent:
                stack.append(self._begin(event, kind is MappingStartEvent, len(stack)))
                continue
            elif kind is AliasEvent:
                value = self._alias(event)
            else:
                frame = stack.pop()
                value = frame.value
                if frame.anchor is not None:
                    self._anchors[frame.anchor] = (value, self._count - frame.start)
            self._count += 1
            if not stack:
                return value
            if stack[-1].mapping is None:
                stack[-1].sequence.append(value)
            else:
                self._put(stack[-1], value, event)

    def _begin(self, event: Any, is_mapping: bool, depth: int) -> _Frame:
        if event.tag not in (_MAPPINGS if is_mapping else _SEQUENCES):
            self._fault(event, f"the tag {event.tag} means nothing to Kubernetes")
        if depth == DEEPEST:
            self._fault(event, f"it is nested deeper than {DEEPEST} levels")
        return _Frame(is_mapping, event.anchor, self._count)

    def _scalar(self, event: Any) -> Any:
        text: str = event.value
        if event.tag is not None:
            value = self._tried(event, tagged, event.tag, text)
        elif not event.implicit[0] or (text and text[0] not in HINTS):
            value = text
        elif text in self._words:
            value = self._words[text]
        else:
            value = self._word(event, text)
        if event.anchor is not None:
            self._anchors[event.anchor] = (value, 1)
        return value

    def _word(self, event: Any, text: str) -> Any:
        try:
            value = self._words[text] = plain(text)
        except ScalarError as error:
            self._fault(event, str(error))
            return None
        return value

    def _tried(self, event: Any, function: Any, *arguments: str) -> Any:
        try:
            return function(*arguments)
        except ScalarError as error:
            self._fault(event, str(error))
            return None

    def _alias(self, event: Any) -> Any:
        if event.anchor not in self._anchors:
            self._fault(event, f"*{event.anchor} refers to a missing anchor, or to a value that contains it")
            return None
        value, size = self._anchors[event.anchor]
        self._count += size
        self._by_aliases += size
        if self._by_aliases > MOST_BY_ALIASES:
            if self._by_aliases - size <= MOST_BY_ALIASES:
                self._fault(event, "its aliases expand to too many values")
            return None
        return copy.deepcopy(value)

    def _put(self, frame: _Frame, value: Any, event: Any) -> None:
        """Add a key of a mapping, or the value of its last key."""
        mapping: Any = frame.mapping
        if frame.wants_key:
            frame.wants_key = False
            frame.is_merge = value is _MERGE_KEY
            frame.key = None if frame.is_merge else self._new_key(frame, value, event)
            return
        frame.wants_key = True
        if frame.is_merge:
            self._merge(frame, value, event)
        elif frame.key is not None:
            mapping[frame.key] = value

    def _key(self, event: Any) -> Any:
        text: str = event.value
        if event.tag is not None:
            value = self._tried(event, tagged_key, event.tag, text)
        elif not event.implicit[0] or (text and text[0] not in HINTS):
            value = _MERGE_KEY if text == _MERGE and event.implicit[0] else text
        else:
            value = self._tried(event, plain_key, text)
        if event.anchor is not None:
            self._anchors[event.anchor] = (text if value is _MERGE_KEY else value, 1)
        return value

    def _new_key(self, frame: _Frame, value: Any, event: Any) -> str | None:
        mapping: Any = frame.mapping
        if not isinstance(value, str):
            if value is not None:
                self._fault(event, f"a key is {_what(value)}, not a string; {_TEMPLATE}")
            return None
        if value in mapping:
            if frame.merged is None or value not in frame.merged:
                self._fault(event, f"the key {value!r} is given twice")
            else:
                frame.merged.discard(value)
        return value

    def _merge(self, frame: _Frame, value: Any, event: Any) -> None:
        """Add the keys of `<<`.

        The first of several mappings has precedence, and an explicit key after `<<` over all of them.
        """
        mapping: Any = frame.mapping
        sources = value if isinstance(value, list) else [value]
        if not all(isinstance(source, dict) for source in sources):
            self._fault(event, "<< takes a mapping, or a list of mappings")
            return
        frame.merged = frame.merged or set()
        for source in reversed(sources):
            mapping.update(source)
            frame.merged.update(source)

    def _fault(self, event: Any, message: str) -> None:
        self.faults.append((self.number, self._line(event), message))

    def _line(self, event: Any) -> int:
        return self.offset + int(event.start_mark.line) + 1


def _what(value: Any) -> str:
    kinds: tuple[tuple[type, str], ...] = ((dict, "a mapping"), (list, "a list"), (bool, "a boolean"))
    return next((word for kind, word in kinds if isinstance(value, kind)), "a number")
