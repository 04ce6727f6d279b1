# SPDX-License-Identifier: GPL-3.0-or-later
"""Find words in human-readable text that the style of this project rules out.

``tools/words.txt`` lists the patterns with their replacements. ``tools/words_clean.txt`` lists the files that must
comply. Findings in other files are only counted, until the files are rewritten and listed.

Text is: Markdown without its code; docstrings, comments and messages of Python files; names, descriptions and comments
of YAML files and templates. Text in backticks, Jinja expressions and markup such as ``O(name)`` is code.
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import sys
import tokenize
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from tools.check_files import Rule, read_rules, repository_files  # noqa: E402 - the program runs from any folder

WORDS = REPOSITORY / "tools/words.txt"
CLEAN = REPOSITORY / "tools/words_clean.txt"
# Files that quote the ruled-out words.
QUOTING = frozenset({"tools/words.txt", "tests/unit/tools/test_words.py"})
# The record of releases is not rewritten.
RECORDS = frozenset({"changelogs/changelog.yaml", "CHANGELOG.rst"})
_CODE = re.compile(r"``.+?``|`[^`]*`|\{\{.*?\}\}|\{%.*?%\}|\b[A-Z]+\([^()]*\)", re.DOTALL)
_FENCED = re.compile(r"^( *)(```|~~~).*?^\1\2 *$", re.DOTALL | re.MULTILINE)
_INDENTED = re.compile(r"(?<=\n\n)(?: {4}[^\n]*\n+)+")
_LINK = re.compile(r"\]\([^()]*\)")
_KEY = re.compile(r"^([ -]*)[\w./-]+:(?= |$)", re.MULTILINE)

Text = tuple[int, str]
"""The number of its first line, and the text."""


@dataclass(frozen=True, order=True)
class Finding:
    """A ruled-out expression in a file, and the expression to write."""

    file: str
    line: int
    found: str
    instead: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.found!r}: {self.instead}"


def markdown_texts(content: str) -> Iterator[Text]:
    """Yield the text of a Markdown file without code blocks and link targets."""
    for pattern in (_FENCED, _INDENTED, _LINK):
        content = pattern.sub(_blank, content)
    yield 1, content


def python_texts(content: str) -> Iterator[Text]:
    """Yield docstrings, messages and blocks of comments of a Python file."""
    yield from _strings(ast.parse(content))
    yield from _comments(content)


def yaml_texts(content: str) -> Iterator[Text]:
    """Yield the text of a YAML file or a template without its keys."""
    yield 1, _KEY.sub(r"\1", content)


READERS: dict[str, Callable[[str], Iterator[Text]]] = {
    ".md": markdown_texts,
    ".py": python_texts,
    ".yml": yaml_texts,
    ".yaml": yaml_texts,
    ".j2": yaml_texts,
}


def _blank(match: re.Match[str]) -> str:
    """Return a placeholder with the line breaks of the match, so that line numbers stay the same."""
    return "_" + "\n" * match[0].count("\n")


def _strings(node: ast.AST) -> Iterator[Text]:
    """Yield literals that contain a space: others are names."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
        yield node.lineno, node.value
    elif isinstance(node, ast.JoinedStr):
        parts = (part.value if isinstance(part, ast.Constant) else "_" for part in node.values)
        yield node.lineno, "".join(map(str, parts))
    else:
        for child in ast.iter_child_nodes(node):
            yield from _strings(child)


def _comments(content: str) -> Iterator[Text]:
    """Yield comments; those on consecutive lines are one text."""
    block: list[str] = []
    first = 0
    for token in tokenize.generate_tokens(io.StringIO(content).readline):
        if token.type != tokenize.COMMENT:
            continue
        if block and token.start[0] != first + len(block):
            yield first, "\n".join(block)
            block = []
        first = first if block else token.start[0]
        block.append(token.string.lstrip("#! "))
    if block:
        yield first, "\n".join(block)


def findings(name: str, content: str, rules: Iterable[Rule]) -> Iterator[Finding]:
    """Yield the findings of one file; `name` is its path in the repository."""
    reader = READERS.get(Path(name).suffix)
    if reader is None or name in QUOTING or name in RECORDS:
        return
    applying = [rule for rule in rules if rule.files.search(name)]
    for line, text in reader(content):
        shown = _CODE.sub(_blank, text)
        for rule in applying:
            for match in rule.pattern.finditer(shown):
                found = " ".join(match[0].split())
                yield Finding(name, line + shown.count("\n", 0, match.start()), found, rule.reason)


def read_globs(path: Path) -> list[str]:
    """Return the patterns of file names of a list; a line that starts with # is a comment."""
    lines = (line.strip() for line in path.read_text("utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def is_clean(name: str, globs: Iterable[str]) -> bool:
    """Return whether a file must comply."""
    return any(fnmatchcase(name, glob) for glob in globs)


def check(root: Path, rules: Sequence[Rule], globs: Sequence[str]) -> tuple[list[str], list[Finding]]:
    """Return the errors of files that must comply, and the findings of other files."""
    names = [path.as_posix() for path in repository_files(root)]
    unused = (glob for glob in globs if not any(fnmatchcase(name, glob) for name in names))
    errors = [f"{CLEAN.name}: no file matches {glob}" for glob in unused]
    others: list[Finding] = []
    for name in names:
        if Path(name).suffix not in READERS:
            continue
        found = sorted(findings(name, (root / name).read_text("utf-8"), rules))
        if is_clean(name, globs):
            errors += map(str, found)
        else:
            others += found
    return errors, others


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the findings of files that must comply, and the number of others; return 1 when a file does not comply."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, nargs="?", default=REPOSITORY, help="the repository to check")
    parser.add_argument("--all", metavar="GLOB", help="also print the findings of other files that match GLOB")
    options = parser.parse_args(arguments)
    errors, others = check(options.root, read_rules(WORDS), read_globs(CLEAN))
    for error in errors:
        print(error, file=sys.stderr)
    for finding in others:
        if options.all and fnmatchcase(finding.file, options.all):
            print(finding)
    files = len({finding.file for finding in others})
    print(f"{len(others)} findings remain in {files} files outside tools/{CLEAN.name}.")
    return int(bool(errors))


if __name__ == "__main__":
    sys.exit(main())
