# SPDX-License-Identifier: GPL-3.0-or-later
"""`lakehouse backup`: takes, lists and verifies backup sets, and serves the schedule.

Each subcommand but `serve` and `hold` outputs one JSON document. `lines` in it are for people; code reads the other
keys.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from crypto_lakehouse.backup.errors import BackupError, DamagedError
from crypto_lakehouse.backup.settings import BackupSettings
from crypto_lakehouse.jobs import finish
from crypto_lakehouse.settings import Settings

log = logging.getLogger("lakehouse.backup")

Result = Mapping[str, Any]


def main(argv: Sequence[str]) -> int:
    """Run the command; returns 0 on success, 1 where a backup is damaged or could not be taken."""
    arguments = _arguments(argv)
    settings, backup = Settings.from_environment(), BackupSettings.from_environment()
    if arguments.command == "serve":
        from crypto_lakehouse.backup.serve import serve

        prepare_log(logging.INFO)
        return serve(settings, backup)
    prepare_log(logging.INFO)
    if arguments.command == "hold":
        return _held(settings, backup, arguments.program)
    return handed_over(settings, backup, lambda: COMMANDS[arguments.command](settings, backup, arguments))


def prepare_log(level: int) -> None:
    """Log to standard error, without the messages of client libraries."""
    logging.basicConfig(stream=sys.stderr, level=level, format="%(message)s", force=True)
    for noisy in ("botocore", "httpx", "pyiceberg", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.ERROR)


def handed_over(settings: Settings, backup: BackupSettings, run: Callable[[], Result]) -> int:
    """Run a subcommand and output its result, or its message and remedy as separate fields.

    Where damaged artifacts are the only failure, `damaged` lists them.
    SIGTERM ends it as an exception does: it stops its programs, removes its temporary files and releases its lock.
    """
    former = signal.signal(signal.SIGTERM, _end)
    try:
        result = run()
    except (BackupError, OSError) as caught:
        error = caught if isinstance(caught, BackupError) else _of_this_machine(caught)
        failure = _masked(error, settings, backup)
        log.error("%s", f"{failure['message']}. {failure['remedy']}".removesuffix(". "))
        finish(failure)
        return 1
    finally:
        signal.signal(signal.SIGTERM, former)
    finish(result)
    return 0 if result.get("ok", True) else 1


def _held(settings: Settings, backup: BackupSettings, program: Sequence[str]) -> int:
    from crypto_lakehouse.backup.hold import hold

    former = signal.signal(signal.SIGTERM, _end)
    try:
        return hold(settings, backup, program)
    except BackupError as error:
        failure = _masked(error, settings, backup)
        log.error("%s", f"{failure['message']}. {failure['remedy']}".removesuffix(". "))
        return 1
    finally:
        signal.signal(signal.SIGTERM, former)


def _masked(error: BackupError, settings: Settings, backup: BackupSettings) -> dict[str, Any]:
    from crypto_lakehouse.bootstrap import mask

    damaged = error.damaged if isinstance(error, DamagedError) else ()
    message, remedy, *named = (mask(mask(each, settings), backup) for each in (error.message, error.remedy, *damaged))
    return {"message": message, "remedy": remedy, **({"damaged": named} if named else {})}


def _of_this_machine(error: OSError) -> BackupError:
    """Return the error of a local file system, such as a full one: those of stores are BackupErrors already."""
    place = error.filename or "a temporary file"
    return BackupError(
        f"cannot use {place}: {error.strerror or error}", "Check free space and permissions below the lakehouse's home."
    )


def _end(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)


def _create(settings: Settings, backup: BackupSettings, arguments: argparse.Namespace) -> Result:
    from crypto_lakehouse.backup import create

    if arguments.check:
        return create.estimate(settings, backup)
    return create.create(settings, backup, safety=arguments.safety)


def _list(settings: Settings, backup: BackupSettings, _arguments: argparse.Namespace) -> Result:
    from crypto_lakehouse.backup.destination.opened import notices, open_destination
    from crypto_lakehouse.backup.report import set_lines
    from crypto_lakehouse.backup.sets import list_sets

    destination = open_destination(settings, backup, "create")
    found = list_sets(destination)
    lines = [f"Destination: {destination.name}", *notices(backup, destination), *set_lines(found)]
    return {"destination": destination.name, "sets": [each.as_dict() for each in found], "lines": lines}


def _verify(settings: Settings, backup: BackupSettings, arguments: argparse.Namespace) -> Result:
    from crypto_lakehouse.backup.create import show_progress
    from crypto_lakehouse.backup.destination.opened import open_destination
    from crypto_lakehouse.backup.report import verification_lines
    from crypto_lakehouse.backup.verify import verify

    destination = open_destination(settings, backup, "create")
    found = verify(
        destination,
        arguments.set,
        arguments.level,
        bytes_per_s=backup.bandwidth_mb * 1e6 or None,
        progress=show_progress("verifying"),
        prove=not arguments.check,
    )
    return {**found.as_dict(), "set": found.set_id, "lines": verification_lines(found)}


COMMANDS: Final[Mapping[str, Callable[[Settings, BackupSettings, argparse.Namespace], Result]]] = {
    "create": _create,
    "list": _list,
    "verify": _verify,
}


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="lakehouse backup", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    create = commands.add_parser("create", help="take a set")
    create.add_argument("--check", action="store_true", help="store nothing, report what would be stored")
    create.add_argument(
        "--safety", action="store_true", help="mark the set as one that a restore takes before it replaces data"
    )
    commands.add_parser("list", help="list the sets of the destination")
    verify = commands.add_parser("verify", help="compare a set with its manifest")
    verify.add_argument("--set", default="latest", metavar="ID", help="id of the set (default: latest)")
    verify.add_argument("--level", type=int, default=2, choices=[1, 2], help="1 sizes, 2 every hash (default: 2)")
    verify.add_argument("--check", action="store_true", help="record no proof beside the set")
    hold = commands.add_parser("hold", help="run a command while no backup or restore runs")
    hold.add_argument("program", nargs="+", metavar="COMMAND", help="after --, with its arguments")
    commands.add_parser("serve", help="receive write-ahead log and take sets on schedule")
    return parser.parse_args(argv)
