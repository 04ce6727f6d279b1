# SPDX-License-Identifier: GPL-3.0-or-later
"""Build the collection, install it into an empty folder, and run a playbook of it by its full name.

The playbook is `crypto_lakehouse.platform.plan` for the `host` target. It changes nothing.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
PLAYBOOK = "crypto_lakehouse.platform.plan"


def run(program: str, *arguments: str, folder: Path) -> None:
    """Run a program of Ansible in `folder`, with only the collections below it.

    Raises `subprocess.CalledProcessError` when the program fails.
    """
    settings = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    settings |= {
        "ANSIBLE_COLLECTIONS_PATH": str(folder / "collections"),
        "ANSIBLE_COLLECTIONS_SCAN_SYS_PATH": "false",
        "ANSIBLE_HOME": str(folder / "home"),
    }
    command = [str(Path(sys.executable).with_name(program)), *arguments]
    subprocess.run(command, cwd=folder, env=settings, check=True)


def build(tree: Path, output: Path, folder: Path) -> Path:
    """Return the package of the collection in `tree`, built into `output`."""
    output.mkdir(parents=True, exist_ok=True)
    for former in output.glob("crypto_lakehouse-platform-*.tar.gz"):
        former.unlink()
    run("ansible-galaxy", "collection", "build", f"--output-path={output}", str(tree), folder=folder)
    (package,) = output.glob("crypto_lakehouse-platform-*.tar.gz")
    return package


def try_out(package: Path, folder: Path) -> None:
    """Install a package without its dependencies, which the `host` target does not need, and run a playbook of it."""
    folder.chmod(0o711)  # the service user has to enter it
    run("ansible-galaxy", "collection", "install", "--no-deps", "--offline", str(package), folder=folder)
    inventory = folder / "collections/ansible_collections/crypto_lakehouse/platform/inventories/local"
    home = f"lakehouse_home={folder / 'lakehouse'}"
    run("ansible-playbook", PLAYBOOK, f"--inventory={inventory}", f"--extra-vars={home}", folder=folder)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tree", type=Path, default=REPOSITORY, help="the clone to build (default: this one)")
    parser.add_argument("output", type=Path, help="the folder that receives the package")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        package = build(given.tree.resolve(), given.output.resolve(), folder)
        try_out(package, folder)
    print(package)
    return 0


if __name__ == "__main__":
    sys.exit(main())
