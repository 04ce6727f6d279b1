# SPDX-License-Identifier: GPL-3.0-or-later
"""Run ``ansible-test sanity`` on the files that git tracks, without a container and without a download site.

ansible-test requires the collection below ``ansible_collections/`` in a separate git repository, so the files are
copied to ``.cache/sanity``. It creates virtual environments, and downloads the script that installs pip from a site
that a closed network does not reach. A script of the same name, which copies a pip from the package index, is put in
its cache instead. All files are written below ``.cache/sanity``, which is its home folder.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import distribution
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from tools.bootstrap import BootstrapError, pip_settings, run, uv_environment, working_pip  # noqa: E402

CACHE = REPOSITORY / ".cache" / "sanity"
HOME = CACHE / "home"
COLLECTION = CACHE / "ansible_collections" / "crypto_lakehouse" / "platform"
# This runs where `ansible-test` installs pip, with the new environment's interpreter.
PIP_SCRIPT = """\
from __future__ import annotations

import shutil
import sysconfig

shutil.copytree({pip!r}, sysconfig.get_path("purelib"), dirs_exist_ok=True)
"""
PIP_CONFIGURED = ("index-url", "extra-index-url", "find-links", "trusted-host", "no-index", "cert", "proxy", "timeout")


def tracked_files() -> list[str]:
    """Return the files that git tracks, and untracked files that are not ignored."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True).stdout
    return sorted({name for name in listing.split("\0") if name and (REPOSITORY / name).is_file()})


def copy_collection() -> None:
    """Copy the collection into a git repository at the path that ansible-test requires."""
    shutil.rmtree(COLLECTION, ignore_errors=True)
    for name in tracked_files():
        target = COLLECTION / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(REPOSITORY / name, target, follow_symlinks=False)
    for words in (["init", "--quiet"], ["add", "--all"]):
        subprocess.run(["git", *words], cwd=COLLECTION, check=True)


def pip_version() -> str:
    """Return the version of pip that this ansible-test installs into its virtual environments."""
    package = distribution("ansible-core")
    source = Path(str(package.locate_file("ansible_test/_internal/python_requirements.py")))
    if found := re.search(r"\bpip='(\d+(?:\.\d+)+)'", source.read_text("utf-8")):
        return found[1]
    raise SystemExit(f"sanity: ansible-core {package.version} does not say which pip ansible-test uses")


def write_home() -> None:
    """Prepare the home folder: pip, its configuration, and the interpreters of the tests."""
    pip = working_pip()
    settings = pip_settings(pip) if pip else {}
    version = pip_version()
    folder = HOME / f"pip-{version}"
    if not folder.exists():
        uv = [str(REPOSITORY / ".venv" / "bin" / "uv"), "pip", "install", "--quiet", "--target", str(folder)]
        run([*uv, f"pip=={version}"], uv_environment(os.environ, settings))
    script = HOME / ".ansible" / "test" / "cache" / f"get_pip_{version.replace('.', '_')}.py"
    script.parent.mkdir(parents=True, exist_ok=True)
    script.write_text(PIP_SCRIPT.format(pip=str(folder)), "utf-8")
    write_pip_configuration(settings)
    link_interpreters()


def write_pip_configuration(settings: Mapping[str, str]) -> None:
    """Repeat the user's pip settings, which may include a password: ansible-test passes no variables on."""
    proxy = os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy")
    settings = ({"proxy": proxy} if proxy else {}) | dict(settings)
    lines = ["[global]", *(f"{name} = {settings[name]}" for name in PIP_CONFIGURED if name in settings)]
    path = HOME / ".config" / "pip" / "pip.conf"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.touch(mode=0o600, exist_ok=False)
    path.write_text("\n".join(lines) + "\n", "utf-8")


def link_interpreters() -> None:
    """Link every working interpreter by its versioned name in one folder, which is first on PATH."""
    shutil.rmtree(HOME / "bin", ignore_errors=True)
    (HOME / "bin").mkdir()
    listing = subprocess.run([REPOSITORY / "tools" / "python", "--list"], check=True, capture_output=True, text=True)
    for path in listing.stdout.split("\n"):
        if path:
            words = "import sys; print('python%d.%d' % sys.version_info[:2], sys._base_executable)"
            answer = subprocess.run([path, "-c", words], check=True, capture_output=True, text=True)
            name, _separator, real_path = answer.stdout.strip().partition(" ")
            link = HOME / "bin" / name
            if not link.is_symlink():
                link.symlink_to(real_path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line."""
    # Without a parser: it would separate an option of ansible-test from its value.
    given = sys.argv[1:] if arguments is None else list(arguments)
    if given in (["-h"], ["--help"]):
        print(__doc__)
        return 0
    HOME.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        # The copy belongs to one run at a time.
        fcntl.flock(lock, fcntl.LOCK_EX)
        return run_sanity(given)


def run_sanity(arguments: Sequence[str]) -> int:
    """Copy, prepare, and run; return the exit code of ansible-test."""
    try:
        write_home()
    except BootstrapError as error:
        print(f"sanity: {error}", file=sys.stderr)
        return 1
    copy_collection()
    path = ":".join([str(HOME / "bin"), str(REPOSITORY / ".venv" / "bin"), "/usr/local/bin", "/usr/bin", "/bin"])
    command = ["ansible-test", "sanity", "--local", "--color", "no", *arguments]
    environment = os.environ | {"HOME": str(HOME), "PATH": path}
    # These would override the configuration above, in the one process that still gets them.
    environment = {name: value for name, value in environment.items() if not name.startswith(("ANSIBLE_", "PIP_"))}
    return subprocess.run(command, cwd=COLLECTION, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
