# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tools import check_files, check_words

RULES = check_files.read_rules(check_words.WORDS)
FOUND = {
    "replaced": ("a.md", "The pod is created anew.\n", "anew"),
    "negation": ("a.md", "The address is no URL.\n", "is no"),
    "metaphor": ("a.md", "Open the doors.\n", "doors"),
    "several lines": ("a.md", "The address is\nno URL.\n", "is no"),
    "subject": ("a.md", "Compare what is described.\n", "what is"),
    "first word": ("a.md", "What a role creates is listed here.\n", "What a"),
    "person": ("a.md", "A table says who may read.\n", "says who may"),
    "anybody": ("a.md", "Whoever has the key reads it.\n", "Whoever"),
    "sentence": ("a.md", "Whatever runs is stopped.\n", "Whatever"),
    "docstring": ("a.py", '"""Names what is missing."""\n', "what is"),
    "comment": ("a.py", "x = 1  # told by the server\n", "told"),
    "message": ("a.py", 'raise ValueError(f"{path} is no folder")\n', "is no"),
    "task name": ("a.yml", "- name: What is missing\n", "What is"),
    "description": ("a.yml", "description: >-\n  The variables that\n  nobody set.\n", "nobody"),
    "comment of a template": ("a.j2", "# The server is told its name.\nname: x\n", "told"),
}
ALLOWED = {
    "code in a text": ("a.md", "Set `doors` to `anew`.\n"),
    "code block": ("a.md", "Run:\n\n    cat told\n\nDone.\n"),
    "fenced code": ("a.md", "Run:\n\n```\ncat told\n```\n"),
    "address of a link": ("a.md", "[page](https://example.org/told)\n"),
    "name": ("a.py", 'told = "anew"\n'),
    "option": ("a.yml", "description: O(doors) is deprecated.\n"),
    "key": ("a.yml", "told: 1\n"),
    "expression": ("a.yml", "msg: '{{ told }}'\n"),
    "existence": ("a.md", "There is no file. It is no longer there.\n"),
    "question": ("a.md", "Read what to do.\n"),
    "relative clause": ("a.md", "A user who may read.\n"),
    "data": ("a.json", '"told"'),
}


@pytest.mark.parametrize(("name", "content", "found"), FOUND.values(), ids=FOUND)
def test_a_ruled_out_expression_is_found(name: str, content: str, found: str) -> None:
    assert [finding.found for finding in check_words.findings(name, content, RULES)] == [found]


@pytest.mark.parametrize(("name", "content"), ALLOWED.values(), ids=ALLOWED)
def test_code_and_valid_expressions_pass(name: str, content: str) -> None:
    assert list(check_words.findings(name, content, RULES)) == []


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.md", "one\n\n    code\n    code\n\n`more\ncode`\nanew\n"),
        ("a.py", 'x = 1\n\n\ndef f():\n    """One.\n\n    Two.\n    anew"""\n'),
        ("a.py", "# one\nx = 1\n# two\n# three\n\n\n\n# anew\n"),
        ("a.yml", "a: {{\n  b }}\n\nc:\n- d: |\n    e\n    f\n  g: anew\n"),
    ],
)
def test_a_finding_names_its_line(name: str, content: str) -> None:
    assert [finding.line for finding in check_words.findings(name, content, RULES)] == [8]


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/clean.md").write_text("A new pod.\n")
    (tmp_path / "docs/other.md").write_text("Made anew.\nAnd told.\n")
    clean = tmp_path / "words_clean.txt"
    clean.write_text("# comment\ndocs/clean*\n")
    monkeypatch.setattr(check_words, "CLEAN", clean)
    return tmp_path


def test_findings_outside_the_list_are_counted(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check_words.main([str(repository)]) == 0
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("2 findings remain in 1 files outside tools/words_clean.txt.\n", "")


def test_findings_outside_the_list_are_printed_on_request(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check_words.main([str(repository), "--all", "docs/*"]) == 0
    assert [line.partition(": ")[0] for line in capsys.readouterr().out.splitlines()][:2] == [
        "docs/other.md:1",
        "docs/other.md:2",
    ]


def test_a_listed_file_must_comply(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (repository / "docs/clean.md").write_text("A pod.\nMade anew.\n")
    assert check_words.main([str(repository)]) == 1
    assert capsys.readouterr().err == "docs/clean.md:2: 'anew': write 'again', 'new' or 'replaced'\n"


def test_a_pattern_without_a_file_is_an_error(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (repository / "docs/clean.md").unlink()
    assert check_words.main([str(repository)]) == 1
    assert capsys.readouterr().err == "words_clean.txt: no file matches docs/clean*\n"
