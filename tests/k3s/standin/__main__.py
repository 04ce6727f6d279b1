# SPDX-License-Identifier: GPL-3.0-or-later
"""Outer program of the stand-in for the K3s binary: an archive that unpacks itself and runs the inner program."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sys
import zipfile
from pathlib import Path

ARCHIVE = Path(sys.argv[0]).resolve()
DEFAULT_DATA_DIR = "/var/lib/rancher/k3s"
TITLED = ("server", "agent")


def print_version() -> None:
    """Print the output of `k3s --version`, with a note about the stand-in."""
    with zipfile.ZipFile(ARCHIVE) as archive:
        version = archive.read("VERSION").decode()
    print(f"k3s version {version} (standin0)\nstand-in for tests: not K3s; its heart is Debian's etcd 3.4")


def find_data_dir(words: list[str]) -> str:
    """Return the data directory of the arguments or the main configuration file."""
    for position, word in enumerate(words):
        name, _separator, value = word.partition("=")
        if name in ("--data-dir", "-d", "-data-dir"):
            return value or (words[position + 1] if position + 1 < len(words) else "")
    for path in _configuration_files():
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith("data-dir:"):
                return line.partition(":")[2].strip().strip("\"'")
    return DEFAULT_DATA_DIR


def _configuration_files() -> list[Path]:
    main = Path(os.environ.get("K3S_CONFIG_FILE", "/etc/rancher/k3s/config.yaml"))
    fragments = sorted(Path(f"{main}.d").glob("*.y*ml"), reverse=True)
    return [path for path in (*fragments, main) if path.is_file()]


def stage(data_dir: Path) -> Path:
    """Unpack the archive into DATA_DIR/data/HASH, once, and return that folder."""
    digest = hashlib.sha256(ARCHIVE.read_bytes()).hexdigest()
    for root in (Path(DEFAULT_DATA_DIR), data_dir):
        if (root / "data" / digest / "bin" / "k3s").exists():
            return root / "data" / digest
    folder = data_dir / "data" / digest
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            _unpack(folder)
    return folder


def _unpack(folder: Path) -> None:
    temporary = folder.with_name(f"{folder.name}-tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    with zipfile.ZipFile(ARCHIVE) as archive:
        archive.extractall(temporary / "bin")
    for program in ("etcd", "etcdctl", "kubectl", "k3s"):
        (temporary / "bin" / program).chmod(0o755)
    current = folder.parent / "current"
    if current.is_symlink():
        current.replace(folder.parent / "previous")
    current.symlink_to(folder)
    temporary.rename(folder)


def main() -> None:
    """Answer `--version`, or replace this process by the inner program, whose arguments ps does not show."""
    words = sys.argv[1:]
    if words[:1] in (["--version"], ["-v"]):
        print_version()
        return
    folder = stage(Path(find_data_dir(words)))
    title = f"{sys.argv[0]} {words[0]}" if words[:1] and words[0] in TITLED else sys.argv[0]
    os.environ["K3S_STANDIN_ARGUMENTS"] = "\x1f".join([sys.argv[0], *words])
    os.execv(sys.executable, [title, "-Es", str(folder / "bin" / "k3s")])  # noqa: S606 - the inner program


if __name__ == "__main__":
    main()
