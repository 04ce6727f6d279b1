# SPDX-License-Identifier: GPL-3.0-or-later
"""`lakehouse bootstrap`: creates and updates databases, buckets, tables and deployments; it can be repeated.

It compares the description with existing resources, and changes only differences by additions: tables, buckets and
databases are never dropped. It prints one JSON document,
`{"changed": ["..."], "unchanged": 12, "foreign": [...], "removed": [...]}`; with `--check` it prints the changes
without making them. `foreign` lists undescribed resources. `--remove` closes the named ones: policies are deleted,
privileges revoked, roles can no longer log in. Resources that own data are not dropped.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final
from urllib.parse import quote, unquote, urlsplit

from pydantic import BaseModel, SecretStr

from crypto_lakehouse import jobs
from crypto_lakehouse.bootstrap.ledger import BootstrapError, Ledger, UnreachableError
from crypto_lakehouse.settings import Settings, SettingsError

log = logging.getLogger("lakehouse.bootstrap")

Part = Callable[[Settings, Ledger], None]


def _database(settings: Settings, ledger: Ledger) -> None:
    from crypto_lakehouse.bootstrap import database, foreign_database

    database.ensure(settings, ledger)
    foreign_database.report(settings, ledger)


def _storage(settings: Settings, ledger: Ledger) -> None:
    from crypto_lakehouse.bootstrap import foreign_storage, storage

    storage.ensure(settings, ledger)
    foreign_storage.report(settings, ledger)


def _orchestration(settings: Settings, ledger: Ledger) -> None:
    from crypto_lakehouse.bootstrap import pages
    from crypto_lakehouse.flows import deployments

    deployments.ensure(settings, ledger)
    pages.ensure(settings, ledger)
    deployments.report(settings, ledger)


PARTS: Final[Mapping[str, Part]] = {"database": _database, "storage": _storage, "orchestrator": _orchestration}
PHASES: Final[Mapping[str, tuple[str, ...]]] = {
    "database": ("database",),
    "storage": ("storage",),
    "services": ("storage", "orchestrator"),
    "orchestrator": ("orchestrator",),
}
"""The parts of a phase are independent. The orchestrator starts only after phase `database` made its own."""


def main(argv: Sequence[str]) -> int:
    """Run the command; returns 0 when everything is in place, 1 when a part failed."""
    arguments = _arguments(argv)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s", force=True)
    for noisy in ("botocore", "httpx", "pyiceberg", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    settings = Settings.from_environment()
    chosen = {name for phase in arguments.phase or PHASES for name in PHASES[phase]}
    remove = frozenset(arguments.remove)
    ledgers = {
        name: Ledger(check=arguments.check, wait_s=arguments.wait_s, remove=remove) for name in PARTS if name in chosen
    }
    with ThreadPoolExecutor(len(ledgers)) as pool:
        problems = list(pool.map(lambda name: _run(name, settings, ledgers[name]), ledgers))
    problems += [mask(problem, settings) for ledger in ledgers.values() for problem in ledger.problems]
    jobs.finish(_report(ledgers.values()))
    for problem in filter(None, problems):
        log.error("%s", problem)
    return 1 if any(problems) else 0


def _run(name: str, settings: Settings, ledger: Ledger) -> str | None:
    try:
        PARTS[name](settings, ledger)
    except UnreachableError as error:
        if not ledger.check:
            return mask(str(error), settings)
        log.info("%s", mask(str(error), settings))
        ledger.changed.append(f"{name}: (known after apply)")
    except SettingsError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a driver throws becomes one line without secrets
        kind = "" if isinstance(error, BootstrapError) else f"{type(error).__name__}: "
        return mask(f"{name}: {kind}{' '.join(str(error).split())}", settings)
    return None


def mask(text: str, settings: BaseModel) -> str:
    """Return `text` with every secret of the settings, and passwords inside their URLs, as `***`."""
    hidden = set()
    for _name, value in settings:
        if isinstance(value, SecretStr):
            plain = value.get_secret_value()
            password = urlsplit(plain).password if "://" in plain else None
            known = [plain, *([password, unquote(password)] if password else [])]
            hidden |= {form for secret in known for form in (secret, quote(secret, safe=""))}
    for secret in sorted(hidden, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def _report(ledgers: Iterable[Ledger]) -> dict[str, object]:
    found = list(ledgers)
    return {
        "changed": [what for ledger in found for what in ledger.changed],
        "unchanged": sum(ledger.unchanged for ledger in found),
        "foreign": [each.as_dict() for ledger in found for each in sorted(ledger.foreign)],
        "removed": [each.as_dict() for ledger in found for each in sorted(ledger.removed)],
    }


def _pair(text: str) -> tuple[str, str]:
    """Return kind and name from JSON: a name may begin with a hyphen, and would be taken for an option."""
    kind, name = json.loads(text)
    return str(kind), str(name)


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="lakehouse bootstrap", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing, print what would change")
    parser.add_argument(
        "--phase",
        action="append",
        choices=list(PHASES),
        help="only this phase (may be given twice; default: all)",
    )
    parser.add_argument(
        "--remove",
        action="append",
        type=_pair,
        default=[],
        metavar='["KIND", "NAME"]',
        help="close this foreign resource, as `foreign` lists it (may be given again)",
    )
    parser.add_argument("--wait-s", type=float, default=60.0, help="how long to wait for a service that is starting")
    return parser.parse_args(argv)
