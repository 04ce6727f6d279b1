# SPDX-License-Identifier: GPL-3.0-or-later
"""Build a release of the stand-in for K3s: the files of a real release's folder, or of an air-gap folder.

    tests/k3s/build.py --version v1.33.5+k3s1 --into FOLDER [--etcd FOLDER] [--kubectl FILE]

It writes FOLDER/k3s (one executable file), k3s-airgap-images-amd64.tar.zst (no images), and sha256sum-amd64.txt.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import re
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY))

from tests.k3s.standin import inner  # noqa: E402 - the program runs from any folder

STANDIN = Path(inner.__file__).parent
# Debian's etcd-server and etcd-client, unpacked, and kubectl of the tests.
ETCD = REPOSITORY / ".cache" / "k3s" / "packages" / "usr" / "bin"
KUBECTL = REPOSITORY / ".cache" / "kube" / "bin" / "kubectl"
SHEBANG = b"#!/usr/bin/python3 -Es\n"
INNER = "#!/usr/bin/python3 -Es\nfrom tests.k3s.standin.inner import main\n\nmain()\n"
IMAGES = "k3s-airgap-images-amd64.tar.zst"
EMPTY_ZSTD = bytes.fromhex("28b52ffd2400010000") + bytes.fromhex("99e9d851")
VERSION = re.compile(r"^v\d+\.\d+\.\d+\+k3s\d+$")


def build(version: str, into: Path, etcd: Path = ETCD, kubectl: Path = KUBECTL) -> Path:
    """Write a release below a folder and return its program."""
    if not VERSION.match(version):
        raise SystemExit(f"cannot build release {version}: not a version of K3s. Use the form v1.33.5+k3s1")
    into.mkdir(parents=True, exist_ok=True)
    program = into / "k3s"
    program.write_bytes(SHEBANG + _archive(version, [etcd / "etcd", etcd / "etcdctl", kubectl]))
    program.chmod(0o755)
    (into / IMAGES).write_bytes(EMPTY_ZSTD)
    sums = [f"{hashlib.sha256((into / name).read_bytes()).hexdigest()}  {name}\n" for name in (IMAGES, "k3s")]
    (into / "sha256sum-amd64.txt").write_text("".join(sums), encoding="utf-8")
    return program


def _archive(version: str, programs: Sequence[Path]) -> bytes:
    """Return the zip archive of the stand-in's modules, PyYAML without its extension, and the real programs."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        _write(archive, "VERSION", version.encode())
        _write(archive, "k3s", INNER.encode())
        _write(archive, "__main__.py", (STANDIN / "__main__.py").read_bytes())
        for path in sorted(STANDIN.iterdir()):
            if path.suffix in (".py", ".yml") and path.name != "__main__.py":
                _write(archive, f"tests/k3s/standin/{path.name}", path.read_bytes())
        for path in sorted(Path(yaml.__file__).parent.glob("*.py")):
            _write(archive, f"yaml/{path.name}", path.read_bytes())
        for path in programs:
            _write(archive, path.name, path.read_bytes())
    return data.getvalue()


def _write(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    """Add a file with a fixed time, so that the same release has the same sum."""
    archive.writestr(zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0)), data, zipfile.ZIP_DEFLATED, 1)


def main(arguments: Sequence[str] | None = None) -> None:
    """Build the release of the arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--version", default=os.environ.get("K3S_STANDIN_VERSION", "v1.33.5+k3s1"))
    parser.add_argument("--into", type=Path, required=True)
    parser.add_argument("--etcd", type=Path, default=ETCD)
    parser.add_argument("--kubectl", type=Path, default=KUBECTL)
    options = parser.parse_args(arguments)
    print(build(options.version, options.into, options.etcd, options.kubectl))


if __name__ == "__main__":
    main()
