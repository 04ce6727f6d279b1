# SPDX-License-Identifier: GPL-3.0-or-later
"""Parsing of texts: documents are read as in kubectl, and all errors are found in one pass."""

from __future__ import annotations

import json
import re
import textwrap
import time
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.yaml import composer, documents
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.yaml.documents import read
from tests.sweep import examples

# YAML has no escapes for surrogates, with which JSON may write characters beyond these.
TEXTS = st.text(st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"]), max_size=20)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | TEXTS,
    lambda children: st.lists(children) | st.dictionaries(TEXTS, children),
    max_leaves=20,
)


@pytest.fixture(params=["the parser in C", "the parser in Python"])
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Provide each of the two parsers: a machine may have only one."""
    if request.param == "the parser in Python":
        monkeypatch.delattr(yaml, "CBaseLoader", raising=False)


pytestmark = pytest.mark.usefixtures("parser")


def contents(text: str) -> list[Any]:
    documents, faults = read(textwrap.dedent(text))
    assert faults == []
    return [document.content for document in documents]


def faults_of(text: str, *, is_json: bool = False) -> list[tuple[int, int, str]]:
    _documents, faults = read(textwrap.dedent(text), is_json=is_json)
    return [(fault.number, fault.line, fault.message) for fault in faults]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: [1, 2\nb: 3", 2, "did not find expected ',' or ']'|expected ',' or ']'"),
        ("a: b: c", 1, "mapping values are not allowed"),
        ("a:\n\t- b", 2, "cannot start any token"),
        ("a: 'b", 1, "found unexpected end of stream"),
        ("a: *b", 1, r"\*b refers to a missing anchor"),
        ("a: &x [*x]", 1, r"\*x refers to a missing anchor, or to a value that contains it"),
        ("a: 1\nb: 2\na: 3", 3, "the key 'a' is given twice"),
        ("a:\n  b: 1\n  'b': 2", 3, "the key 'b' is given twice"),
        ("1: a\n'1': b", 2, "the key '1' is given twice"),
        ("yes: a\n'true': b", 2, "the key 'true' is given twice"),
        ("~: a", 1, "a key is empty or null"),
        ("[a]: b", 1, "a key is a list, not a string"),
        ("a: {{ b }}", 1, "a key is a mapping, not a string; if it is a template"),
        ("a: .inf", 1, "is not a number in JSON"),
        ("a: !vault x", 1, "the tag !vault means nothing to Kubernetes"),
        ("a: !!set {b}", 1, "the tag .*set means nothing to Kubernetes"),
        ("a: 1\n<<: 2", 2, "<< takes a mapping"),
        ("a: !!int x", 1, "is tagged !!int, which it is not"),
        ("a: \x01", 1, "it is not YAML"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text: str, line: int, words: str) -> None:
    ((number, found, message),) = faults_of(text)

    assert (number, found) == (1, line)
    assert re.search(words, message), message


def test_everything_that_is_wrong_is_found_at_once() -> None:
    text = """\
        a: 1
        a: 2
        b: .nan
        ---
        fine: yes
        ---
        a: [
        ---
        # nothing here
        ---
        a: b: c
        --- # the last
        c: 1
        c: 2
        """
    documents, _faults = read(textwrap.dedent(text))

    assert [(number, line) for number, line, _message in faults_of(text)] == [(1, 2), (1, 3), (3, 8), (5, 11), (6, 14)]
    assert [(document.number, document.line) for document in documents] == [(2, 4)]


def test_a_word_that_is_wrong_is_wrong_in_each_document() -> None:
    assert [number for number, _line, _message in faults_of("a: .inf\n---\na: .inf\n")] == [1, 2]


def test_a_template_that_was_not_rendered_is_recognised() -> None:
    assert "it looks like a template: render it first" in faults_of("a: {% if b %}\nc: {{ d }}")[0][2]


def test_few_lines_that_stand_for_more_than_a_machine_holds() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]

    began_s = time.monotonic()
    assert faults_of("\n".join(lines)) == [(1, 6, "its aliases expand to too many values")]
    assert time.monotonic() - began_s < 30


def test_nesting_that_is_allowed_can_be_copied_and_written() -> None:
    depth = composer.DEEPEST - 2
    ((content),) = contents(f"a: &x {'[' * depth}{']' * depth}\nb: *x")

    assert json.dumps(content["a"]) == json.dumps(content["b"]) == "[" * depth + "]" * depth


@pytest.mark.parametrize("text", ["[" * 600 + "]" * 600, "{a: " * 600 + "}" * 600])
def test_nesting_without_end(text: str) -> None:
    message = faults_of(f"a: {text}")[0][2]
    assert message == f"it is nested deeper than {composer.DEEPEST} levels"


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("a: =", {"a": "="}),
        ("a: 12:30:45", {"a": "12:30:45"}),
        ("a: 2001-01-01", {"a": "2001-01-01"}),
        ('a: "yes"', {"a": "yes"}),
        ("a: ! 12", {"a": "12"}),
        ("a: |\n  x\n  ---y\n", {"a": "x\n---y\n"}),
        ("y: n", {"true": False}),
        ("1: 017", {"1": 15}),
        ("a:", {"a": None}),
        ("{a: 1}", {"a": 1}),
        ("- 1\n- [2]", [1, [2]]),
        ("text", "text"),
        ("a: &x {b: 1}\nc: *x", {"a": {"b": 1}, "c": {"b": 1}}),
        ("&k a: 1\nb: *k", {"a": 1, "b": "a"}),
        ("%YAML 1.1\n---\na: 1", {"a": 1}),
        ("\ufeffa: 1", {"a": 1}),
        ("a: 1\r\nb: 2\r\n", {"a": 1, "b": 2}),
        ("x: &x {a: 1, b: 2}\nz:\n  <<: *x\n  b: 3", {"x": {"a": 1, "b": 2}, "z": {"a": 1, "b": 3}}),
        (
            "x: &x {a: 1}\nw: &w {a: 2, c: 3}\nz: {<<: [*x, *w]}",
            {"x": {"a": 1}, "w": {"a": 2, "c": 3}, "z": {"a": 1, "c": 3}},
        ),
        ("x: &x {a: 1}\nz: {a: 5, <<: *x}", {"x": {"a": 1}, "z": {"a": 1}}),
        ('a: {"<<": 1}', {"a": {"<<": 1}}),
        ("a: {&k <<: {b: 1}}\nc: *k", {"a": {"b": 1}, "c": "<<"}),
    ],
)
def test_what_is_written_is_what_is_read(text: str, content: object) -> None:
    assert contents(text) == [content]


def test_what_an_alias_stands_for_is_nobody_elses() -> None:
    ((content),) = contents("a: &x {b: [1]}\nc: *x")

    content["a"]["b"].append(2)
    assert content["c"] == {"b": [1]}


def test_a_key_that_was_merged_may_be_given_once_more_but_not_twice() -> None:
    assert faults_of("x: &x {a: 1}\ny:\n  <<: *x\n  a: 2\n  a: 3")[0] == (1, 5, "the key 'a' is given twice")


def test_documents_that_are_empty_are_left_out_and_counted() -> None:
    documents, faults = read("---\n---\n# only this\n---\na: 1\n...\n---\nnull\n---\nb: 2\n")

    assert faults == []
    assert [(document.number, document.line, document.content) for document in documents] == [
        (3, 4, {"a": 1}),
        (5, 9, {"b": 2}),
    ]


@pytest.mark.parametrize("text", ["", "\n", "---\n", "# nothing\n", "---\n...\n"])
def test_a_text_may_hold_nothing(text: str) -> None:
    assert contents(text) == []


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ('{"a": 1}', [{"a": 1}]),
        ('{"a": 1}\n{"b": 2}', [{"a": 1}, {"b": 2}]),
        ('{"a": 1}\n---\n{"b": 2}\n', [{"a": 1}, {"b": 2}]),
        ('\t{"a":\t1.0, "b": 1.5, "c": 1e3}', [{"a": 1, "b": 1.5, "c": 1000}]),
        ('{"a": "yes"}', [{"a": "yes"}]),
        ("{a: yes}", [{"a": True}]),
    ],
)
def test_json(text: str, content: list[object]) -> None:
    assert contents(text) == content


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('{"a": 1}\n{"b": 1 "c"}', (2, 2, "it is not JSON: Expecting ',' delimiter")),
        ('{"a": 1}\n{"b": 2, "b": 3}', (2, 2, "the key 'b' is given twice")),
        ('{"a": 1}\n{"b": NaN}', (2, 2, "NaN is not a number in JSON; quote it if it is a string")),
        ('{"a": 1e999}', (1, 1, "1e999 is not a number in JSON; quote it if it is a string")),
    ],
)
def test_json_that_is_wrong(text: str, fault: tuple[int, int, str]) -> None:
    ((number, line, message),) = faults_of(text, is_json=True)

    assert (number, line) == fault[:2]
    assert message == fault[2]


def test_what_calls_itself_json_and_is_neither_is_told_as_json() -> None:
    assert faults_of('{"a": [}', is_json=True) == [(1, 1, "it is not JSON: Expecting value")]
    assert "it is not YAML" in faults_of('{"a": [}')[0][2]


@settings(max_examples=examples(40))
@given(JSON_VALUES)
def test_all_of_json_survives(content: Any) -> None:
    text = json.dumps({"a": content})

    assert contents(text) == [{"a": content}]
    documents, faults = read(f"# so that it is not JSON\n{text}")
    assert faults == []
    assert [document.content for document in documents] == [{"a": content}]


@settings(max_examples=examples(40))
@given(JSON_VALUES)
def test_what_is_written_as_yaml_survives(content: Any) -> None:
    class Dumper(yaml.SafeDumper):
        """Quotes every string, so that it stays a string."""

    Dumper.add_representer(str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"'))

    assert contents(yaml.dump({"a": content}, Dumper=Dumper)) == [{"a": content}]


@pytest.mark.parametrize("text", ['{"a": "\\ud800"}', '{"b": 1}\n{"a": ["\\uDFFF"]}'])
def test_halves_of_characters(text: str) -> None:
    ((number, line, message),) = faults_of(text)

    assert number == line == text.count("\n") + 1
    assert "is half of a character; write the character itself" in message


def test_characters_that_json_writes_as_two_escapes() -> None:
    assert contents(json.dumps({"a": "\U0001f600"})) == [{"a": "\U0001f600"}]


@given(st.text(alphabet="ab:-[]{},&*!|>'\"%@`#?\n \t=<~1.", max_size=60))
def test_no_text_is_too_odd(text: str) -> None:
    documents, faults = read(text)

    lines = text.count("\n") + 2
    assert all(1 <= fault.line <= lines for fault in faults)
    json.dumps([document.content for document in documents])


class Memory(dict[str, Any]):
    """Values by their text, as they are stored on a disk."""

    def put(self, text: str, value: Any) -> None:
        self[text] = json.dumps(value)

    def get(self, text: str, default: Any = None) -> Any:
        return json.loads(self[text]) if text in self else default


_DEFINITION = """apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: NAME}
spec: {default: 1.5, other: 1e30, text: "a: b"}
"""
_PIECES = st.sampled_from(
    [
        *(
            "---\n",
            "\r",
            "\u2028",
            "- b\nkind: CustomResourceDefinition\n",
            "--- # next\n",
            "# remark\n",
            "\n",
            "...\n",
            "%YAML 1.1\n",
            "---\nkind: Service\n",
            "a: [\n",
            "a: b: c\n",
        ),
        *(
            "---\na: |\n ---\n  b\n",
            "---\na: 1\na: 2\n",
            "---\na: '\n",
            "---\n- \x00\n",
            '---\na: "\\ud800"\n',
            "--- {a: 1}\n",
        ),
        *(f"---\n{_DEFINITION}", _DEFINITION, f"---\n# remark\n{_DEFINITION}", f"---\n{_DEFINITION}a: 1\na: 1\n"),
        *(f"---\n{_DEFINITION}---\n{_DEFINITION}".replace("NAME", name) for name in "pq"),
        *(f"---\n{_DEFINITION}{end}" for end in ("a: '\n", "a: &b [*b]\n", 'a: "\\uD800"\n', "a: b: c\n")),
    ]
)


@settings(max_examples=examples(150))
@given(st.lists(_PIECES, max_size=6).map("".join))
def test_what_is_kept_of_a_text_changes_nothing_of_it(text: str) -> None:
    kept = Memory()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(documents, "_LARGE", 0)
        expected = read(text)
        assert [read(text, kept=kept), read(text, kept=kept)] == [expected, expected]


def test_large_definitions_alone_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "_LARGE", 100)
    kept = Memory()
    secret = "---\nkind: Secret\nstringData:\n  key: 'a\nkind: CustomResourceDefinition\nb'\n" + "# \n" * 100
    text = f"---\n{_DEFINITION}{secret}---\n{_DEFINITION}---\nkind: CustomResourceDefinition\n"
    assert len(read(text, kept=kept)[0]) == 4
    assert list(kept) == [f"---\n{_DEFINITION}"]
    (value,) = kept.values()
    kept.update({key: value.replace("1.5", "2.5") for key in kept})
    assert [document.content.get("spec", {}).get("default") for document in read(text, kept=kept)[0]] == [
        2.5,
        None,
        2.5,
        None,
    ]
