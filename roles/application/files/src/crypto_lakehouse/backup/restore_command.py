# SPDX-License-Identifier: GPL-3.0-or-later
"""`lakehouse restore`: restores a backup set, in phases that a playbook orders around starts and stops of services."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from crypto_lakehouse.backup.command import Result, handed_over, prepare_log
from crypto_lakehouse.backup.settings import BackupSettings
from crypto_lakehouse.settings import Settings

COMPONENTS: Final = ("tables", "raw", "database")


def main(argv: Sequence[str]) -> int:
    """Run one phase; returns 0 on success, 1 where it could not be completed."""
    arguments = _arguments(argv)
    settings, backup = Settings.from_environment(), BackupSettings.from_environment()
    prepare_log(logging.INFO)
    return handed_over(settings, backup, lambda: _run(settings, backup, arguments))


def _run(settings: Settings, backup: BackupSettings, arguments: argparse.Namespace) -> Result:
    from crypto_lakehouse.backup.create import owner
    from crypto_lakehouse.backup.destination.opened import open_destination
    from crypto_lakehouse.backup.lock import LOCK_WAIT_S
    from crypto_lakehouse.backup.report import restore_lines
    from crypto_lakehouse.backup.restore import Restore, select
    from crypto_lakehouse.backup.sets import open_to_restore
    from crypto_lakehouse.backup.state import State
    from crypto_lakehouse.jobs import read_input

    selection = select(arguments.component, arguments.table, arguments.new_name, overwrite=arguments.overwrite)
    destination = open_destination(settings, backup, "restore")
    restore = Restore(settings, backup, destination, open_to_restore(destination, arguments.set), selection)

    def alone(phase: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        # A set that is taken meanwhile would mix two states.
        with State(settings, backup).lock(owner("restore")).held(LOCK_WAIT_S) as restore.guard:
            return phase()

    phases: Mapping[str, Callable[[], dict[str, Any]]] = {
        "plan": restore.plan,
        "lake": lambda: alone(restore.lake),
        "database": lambda: alone(restore.database),
        "runs": restore.runs,
        "configuration": lambda: restore.configuration(read_input()),
    }
    found = phases[arguments.phase]()
    return {**found, "lines": restore_lines(arguments.phase, found)}


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="lakehouse restore", description=__doc__)
    parser.add_argument("phase", choices=["plan", "lake", "database", "runs", "configuration"])
    parser.add_argument("--set", default="latest", metavar="ID", help="id of the set (default: latest)")
    parser.add_argument("--component", action="append", default=[], choices=COMPONENTS, help="only this component")
    parser.add_argument("--table", action="append", default=[], metavar="TIER.NAME", help="only this table")
    parser.add_argument("--as", dest="new_name", default="", metavar="TIER.NAME", help="new name of the only table")
    parser.add_argument("--overwrite", action="store_true", help="replace data that exists")
    return parser.parse_args(argv)
