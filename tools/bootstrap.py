# SPDX-License-Identifier: GPL-3.0-or-later
"""Create a virtual environment with exactly the packages of hash-locked requirements files.

    tools/bootstrap.py .venv requirements.txt

Requires only Python 3.11 and any pip: pip downloads the uv that ``requirements.txt`` pins, and uv does the rest.
Package index, certificates and credentials come from the user's configuration of uv or pip.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
CONTROLLER_LOCK = REPOSITORY / "requirements.txt"
# Settings of pip, and uv's variables for them.
UV_VARIABLES = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "trusted-host": "UV_INSECURE_HOST",
    "no-index": "UV_NO_INDEX",
    "cert": "SSL_CERT_FILE",
    "timeout": "UV_HTTP_TIMEOUT",
    "default-timeout": "UV_HTTP_TIMEOUT",
}
INDEX_VARIABLES = frozenset({"UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_NO_INDEX"})


class BootstrapError(Exception):
    """The environment cannot be created. The message contains a remedy."""


def pip_settings(pip: list[str]) -> dict[str, str]:
    """Return pip's configuration from environment and files: ``{"index-url": "https://..."}``."""
    listing = subprocess.run([*pip, "config", "list"], capture_output=True, text=True, check=False)
    settings: dict[str, str] = {}
    for line in listing.stdout.splitlines():
        found = re.fullmatch(
            r"(?P<section>:env:|global|install|download)\.(?P<name>[\w-]+)=(?P<value>'.*'|\".*\")", line
        )
        # In pip, the environment precedes files, and a command's section precedes [global].
        if found and (found["section"] != "global" or found["name"] not in settings):
            settings[found["name"]] = " ".join(found["value"][1:-1].replace("\\n", " ").split())
    return settings


def uv_environment(environment: Mapping[str, str], pip: Mapping[str, str]) -> dict[str, str]:
    """Return ``environment`` with pip's settings as uv's variables, unless uv's own are set."""
    result = dict(environment)
    user_chose_index = bool(INDEX_VARIABLES & result.keys())
    for name, value in pip.items():
        variable = UV_VARIABLES.get(name)
        if variable is None or variable in result or (user_chose_index and variable in INDEX_VARIABLES):
            continue
        result[variable] = value
    if "extra-index-url" in pip:
        # As in pip: the best version of all indexes. Hashes verify the packages.
        result.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")
    if "SSL_CERT_FILE" not in result and "SSL_CERT_DIR" not in result:
        result.setdefault("UV_SYSTEM_CERTS", "true")
    result["UV_PYTHON_DOWNLOADS"] = "never"
    result.setdefault("UV_LINK_MODE", "copy" if sys.platform == "win32" else "hardlink")
    # An activated environment must not be changed.
    result.pop("VIRTUAL_ENV", None)
    return result


def pips() -> Iterator[list[str]]:
    """Yield the command lines that may be a working pip, best first."""
    yield [sys.executable, "-m", "pip"]
    for name in ("python3", "python3.14", "python3.13", "python3.12", "python3.11"):
        for folder in os.get_exec_path():
            yield [str(Path(folder) / name), "-m", "pip"]
    for name in ("pip3", "pip"):
        yield [name]


def working_pip() -> list[str] | None:
    """Return the first pip that answers."""
    for pip in pips():
        if (
            shutil.which(pip[0])
            and subprocess.run([*pip, "--version"], capture_output=True, check=False).returncode == 0
        ):
            return pip
    return None


def pinned_uv() -> str:
    """Return the lines of the controller's lock that pin uv and its hashes."""
    found = re.search(r"^uv==\S+ \\\n(?:    --hash=\S+(?: \\)?\n)+", CONTROLLER_LOCK.read_text("utf-8"), re.MULTILINE)
    if found is None:
        raise BootstrapError(f"{CONTROLLER_LOCK.name} does not pin uv with hashes; run `make lock`.")
    return found[0]


def fetch_uv(pip: list[str] | None, folder: Path) -> Path:
    """Put the pinned uv into ``folder`` with pip and return the program."""
    if pip is None:
        on_path = shutil.which("uv")
        if on_path is None:
            raise BootstrapError(
                "No pip was found. Install it for Python 3.11 or newer (Debian: apt install python3-pip)."
            )
        return Path(on_path)
    pin = folder / "uv.txt"
    pin.write_text(pinned_uv(), "utf-8")
    options = ["--require-hashes", "--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--quiet"]
    # If set by the user, these two forbid --target or an install outside a virtual environment.
    environment = os.environ | {"PIP_USER": "0", "PIP_REQUIRE_VIRTUALENV": "0", "PIP_ROOT_USER_ACTION": "ignore"}
    command = [*pip, "install", *options, "--target", str(folder / "uv"), "--requirement", str(pin)]
    if subprocess.run(command, env=environment, check=False).returncode:
        raise BootstrapError("pip could not fetch uv. Check the package index (`pip config list`) and the network.")
    return folder / "uv" / "bin" / "uv"


def runs(command: list[str]) -> bool:
    """Return whether a program exists and answers."""
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def run(command: list[str], environment: Mapping[str, str]) -> None:
    """Run a step of uv, which reports its own errors."""
    if subprocess.run(command, env=dict(environment), check=False).returncode:
        raise BootstrapError(f"`{' '.join(Path(word).name if '/' in word else word for word in command)}` failed.")


def link_collection(venv: Path) -> None:
    """Link this repository under the collection's name, so that Ansible and Python find any clone."""
    link = venv / "collections" / "ansible_collections" / "crypto_lakehouse" / "platform"
    link.parent.mkdir(parents=True, exist_ok=True)
    target = os.path.relpath(REPOSITORY, link.parent.resolve())
    if not link.is_symlink() or link.readlink() != Path(target):
        link.unlink(missing_ok=True)
        link.symlink_to(target)


def synchronise(venv: Path, locks: Sequence[Path], editable: Path | None, python_version: str | None = None) -> None:
    """Create or update ``venv`` with exactly the packages of ``locks`` and the project ``editable``.

    python_version: target version of the packages, if only their files are required.
    """
    python = venv / "bin" / "python"
    environment_works = runs([str(python), "-c", "import ssl"])
    venv_uv = venv / "bin" / "uv"
    with tempfile.TemporaryDirectory(prefix="uv-") as folder:
        pip = working_pip()
        reusable = environment_works and runs([str(venv_uv), "--version"])
        uv = str(venv_uv if reusable else fetch_uv(pip, Path(folder)))
        environment = uv_environment(os.environ, pip_settings(pip) if pip else {})
        if not environment_works:
            # Relocatable: the repository can be moved, and its path may contain spaces.
            run(
                [uv, "venv", "--quiet", "--relocatable", "--allow-existing", "--python", sys.executable, str(venv)],
                environment,
            )
        wanted = ["--python-version", python_version] if python_version else []
        options = ["--quiet", "--require-hashes", *wanted, "--python", str(python)]
        run([uv, "pip", "sync", *options, *map(str, locks)], environment)
        if editable:
            run(
                [uv, "pip", "install", "--quiet", "--no-deps", "--python", str(python), "--editable", str(editable)],
                environment,
            )


def main() -> int:
    """Read the command line, and report an error in one message."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("venv", type=Path, help="the virtual environment's folder")
    parser.add_argument("locks", type=Path, nargs="+", help="requirements files with hashes")
    parser.add_argument("--editable", type=Path, help="a project to install from its source folder")
    parser.add_argument("--python-version", help="the version that the packages are to be for, when it is another")
    arguments = parser.parse_args()
    try:
        synchronise(arguments.venv, arguments.locks, arguments.editable, arguments.python_version)
        if arguments.venv.resolve() == REPOSITORY / ".venv":
            link_collection(arguments.venv)
    except (BootstrapError, OSError) as error:
        print(f"bootstrap: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
