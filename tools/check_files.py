# SPDX-License-Identifier: GPL-3.0-or-later
"""Check that files of the repository do not contain text that must never be published.

That is secrets, and in lock files the address of a package index: every user configures their own index.
``tools/forbidden_patterns.txt`` lists the patterns.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

PATTERNS = Path(__file__).with_name("forbidden_patterns.txt")


@dataclass(frozen=True)
class Rule:
    """A pattern, its files, and the message for a match."""

    files: re.Pattern[str]
    pattern: re.Pattern[str]
    reason: str


def read_rules(path: Path) -> list[Rule]:
    """Return the rules of a pattern file: lines of files, pattern and reason, separated by tabs."""
    rules = []
    for line in path.read_text("utf-8").splitlines():
        if line and not line.startswith("#"):
            files, pattern, reason = (word.strip() for word in line.split("\t") if word)
            rules.append(Rule(re.compile(files), re.compile(pattern), reason))
    return rules


def repository_files(root: Path) -> list[Path]:
    """Return the files that git tracks, and new files that it does not ignore."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout
    return [Path(name) for name in sorted(set(listing.split("\0"))) if name and (root / name).is_file()]


def problems(root: Path, rules: Sequence[Rule]) -> Iterator[str]:
    """Yield location and reason of every match, without the matched text, which may be a secret."""
    for name in repository_files(root):
        content = (root / name).read_bytes()
        if b"\0" in content[:8192]:
            continue
        applying = [rule for rule in rules if rule.files.search(name.as_posix())]
        for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), start=1):
            for rule in applying:
                if rule.pattern.search(line):
                    yield f"{name}:{number}: {rule.reason}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print every problem; return 1 when there is one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, nargs="?", default=Path())
    found = list(problems(parser.parse_args(arguments).root, read_rules(PATTERNS)))
    for problem in found:
        print(problem, file=sys.stderr)
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
