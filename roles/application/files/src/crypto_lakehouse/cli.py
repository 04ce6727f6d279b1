# SPDX-License-Identifier: GPL-3.0-or-later
"""The command `lakehouse`: the subcommands of the application."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Command:
    """A subcommand: a module with `main(argv) -> int`, which is imported only when it is called."""

    module: str
    summary: str


COMMANDS: Final[dict[str, Command]] = {
    "api": Command("crypto_lakehouse.api.server", "serve the HTTP API"),
    "backup": Command("crypto_lakehouse.backup.command", "take, list and verify backup sets"),
    "bootstrap": Command("crypto_lakehouse.bootstrap", "create databases, buckets and tables"),
    "deployments": Command("crypto_lakehouse.flows.deployments", "register the flows' schedules"),
    "orchestrator": Command("crypto_lakehouse.orchestrator", "serve Prefect behind one password"),
    "restore": Command("crypto_lakehouse.backup.restore_command", "restore a backup set"),
    "token": Command("crypto_lakehouse.api.token", "print the token of a named client of the API"),
    "verify": Command("crypto_lakehouse.verify", "prove that the whole platform works"),
    "worker": Command("crypto_lakehouse.flows.worker", "run the flows that are due"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the subcommand named first in `argv` with the remaining arguments.

    Returns the exit status: the subcommand's, or 2 when its settings are missing or wrong.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = _parser()
    chosen, rest = parser.parse_known_args(arguments[:1])[0], arguments[1:]
    _import_less()
    from crypto_lakehouse.settings import SettingsError

    try:
        return int(importlib.import_module(COMMANDS[chosen.command].module).main(rest))
    except SettingsError as error:
        print(f"lakehouse {chosen.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _import_less() -> None:
    """Skip imports that packages make and no command uses; they would take a tenth of a second of each process.

    httpx imports the libraries of its command line where they are installed, and pydantic looks for plugins in the
    metadata of every package.
    """
    sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lakehouse", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in sorted(COMMANDS.items()):
        commands.add_parser(name, help=command.summary, add_help=False)
    return parser


if __name__ == "__main__":
    sys.exit(main())
