# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check the availability of packages: all sources concurrently, with a timeout for each request."""

from __future__ import annotations

import base64
import configparser
import contextlib
import email.utils
import importlib.util
import os
import re
import shutil
import ssl
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ..shared.commands import run_command

PARALLEL = 16
# A local program also answers on a busy machine; the timeout of a request is for unreachable sources.
PROGRAM_TIMEOUT_S = 60.0
SIMPLE_PAGE = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.01"


@dataclass(frozen=True)
class Answer:
    """Availability of a package, and the server's clock in seconds since 1970 if it returned one."""

    found: bool
    server_time_s: float | None = None


@dataclass(frozen=True)
class PythonSources:
    """Sources of Python packages: indexes (addresses of a simple index), locations of files, and a CA bundle.

    `default` is the index that replaces the installer's own; if it is not set, the installer's index is used as well.
    """

    default: str | None = None
    others: tuple[str, ...] = ()
    places: tuple[str, ...] = ()
    ca_bundle: str | None = None

    @property
    def indexes(self) -> tuple[str, ...]:
        """Return the configured addresses."""
        return (*filter(None, [self.default]), *self.others)

    def uv_environment(self) -> dict[str, str]:
        """Return the sources as variables of uv, which does not read pip's configuration, without credentials.

        With several indexes, the best version of all is used, as in pip; the hashes of the lock file are verified.
        """
        open_to_all = [index for index in self.indexes if index == _without_credentials(index)]
        others = [index for index in open_to_all if index in self.others]
        words = {
            "UV_DEFAULT_INDEX": self.default if self.default in open_to_all else "",
            "UV_INDEX": " ".join(others),
            "UV_INDEX_STRATEGY": "unsafe-best-match" if others else "",
            "UV_FIND_LINKS": ",".join(place for place in self.places if place == _without_credentials(place)),
            "SSL_CERT_FILE": self.ca_bundle or "",
        }
        return {name: value for name, value in words.items() if value}

    def shown(self) -> str:
        """Return the sources without credentials."""
        own = [] if self.default else ["the installer's default index"]
        return ", ".join([*own, *(_without_credentials(source) for source in (*self.indexes, *self.places))])


def python_sources(index: str | None, environment: Mapping[str, str], files: Iterable[Path]) -> PythonSources:
    """Return the sources of pip and uv from option, environment or pip's files; the last setting takes precedence."""
    settings: dict[str, str] = {}
    for path in files:
        parser = configparser.RawConfigParser()
        with contextlib.suppress(configparser.Error, OSError, UnicodeDecodeError):
            parser.read(path)
            settings.update(parser["global"] if parser.has_section("global") else {})
    for word in ("index-url", "extra-index-url", "find-links", "cert"):
        value = environment.get(f"PIP_{word.upper().replace('-', '_')}")
        if value:
            settings[word] = value
    first = index or environment.get("UV_DEFAULT_INDEX") or environment.get("UV_INDEX_URL") or settings.get("index-url")
    others = f"{environment.get('UV_INDEX', '')} {settings.get('extra-index-url', '')}".split() if not index else []
    places = f"{environment.get('UV_FIND_LINKS', '')} {settings.get('find-links', '')}".replace(",", " ").split()
    bundle = environment.get("SSL_CERT_FILE") or settings.get("cert")
    return PythonSources(first or None, tuple(others), tuple(places), bundle)


def pip_files(home: str) -> list[Path]:
    """Return pip's configuration files, the one with precedence last."""
    return [Path("/etc/pip.conf"), Path(home, ".pip/pip.conf"), Path(home, ".config/pip/pip.conf")]


def python_packages(names: Sequence[str], sources: PythonSources, timeout_s: float) -> dict[str, Answer]:
    """Return the availability of each package in the sources."""
    wanted = [(name, _page(index, name)) for name in names for index in sources.indexes]
    wanted += [(name, place) for name in names for place in sources.places]
    with ThreadPoolExecutor(PARALLEL) as pool:
        answers = list(pool.map(lambda pair: _ask(pair[0], pair[1], sources, timeout_s), wanted))
    found: dict[str, Answer] = {}
    for (name, _source), answer in zip(wanted, answers, strict=True):
        before = found.get(name, Answer(False))
        found[name] = Answer(before.found or answer.found, before.server_time_s or answer.server_time_s)
    unanswered = [name for name in names if not found.get(name, Answer(False)).found] if not sources.default else []
    return {**found, **_installers_answers(unanswered, timeout_s)}


def _installers_answers(names: Sequence[str], timeout_s: float) -> dict[str, Answer]:
    """Query uv or pip, which know their default index: all packages together first, then each."""
    uv = Path(sys.executable).with_name("uv")
    program = str(uv) if uv.is_file() else shutil.which("uv")
    if program and len(names) > 1 and _ask_installer(program, names, timeout_s).found:
        return dict.fromkeys(names, Answer(True))
    with ThreadPoolExecutor(PARALLEL) as pool:
        answers = pool.map(lambda name: _ask_installer(program, [name], timeout_s), names)
        return dict(zip(names, answers, strict=True))


def _ask_installer(program: str | None, names: Sequence[str], timeout_s: float) -> Answer:
    """Return whether uv (`program`), or pip, finds all packages. Without both, the installation reports problems."""
    with tempfile.TemporaryDirectory() as folder:
        if program:
            # A dry run creates its target folder, so that a temporary one is used.
            words = ("pip", "install", "--dry-run", "--no-deps", "--no-cache", "--quiet")
            command = [program, *words, f"--python={sys.executable}", f"--target={folder}", *names]
        elif importlib.util.find_spec("pip"):
            command = [sys.executable, "-m", "pip", "index", "versions", *names]
        else:
            return Answer(True)
        with contextlib.suppress(OSError, TimeoutError):
            environment = {**os.environ, "UV_HTTP_TIMEOUT": f"{timeout_s:.0f}", "PIP_TIMEOUT": f"{timeout_s:.0f}"}
            return Answer(run_command(command, PROGRAM_TIMEOUT_S, environment).status == 0)
    return Answer(False)


def _page(index: str, name: str) -> str:
    return f"{index.rstrip('/')}/{re.sub(r'[-_.]+', '-', name).lower()}/"


def _ask(name: str, source: str, sources: PythonSources, timeout_s: float) -> Answer:
    if "://" not in source or source.startswith("file:"):
        path = Path(urllib.parse.unquote(source.removeprefix("file://")))
        if source.endswith("/") and path.is_dir() and source not in sources.places:
            return Answer(any(path.iterdir()))
        return Answer(_holds_file(path, name))
    return _fetch(source, sources.ca_bundle, timeout_s)


def _holds_file(folder: Path, name: str) -> bool:
    """Return whether a folder has a wheel or source archive of the package; file names have `_` instead of `-`."""
    plain = re.sub(r"[-_.]+", "_", name).lower()
    with contextlib.suppress(OSError):
        return any(re.sub(r"[-.]+", "_", path.name).lower().startswith(f"{plain}_") for path in folder.iterdir())
    return False


def _fetch(url: str, ca_bundle: str | None, timeout_s: float) -> Answer:
    parts = urllib.parse.urlsplit(url)
    request = urllib.request.Request(_without_credentials(url), headers={"Accept": SIMPLE_PAGE})  # noqa: S310 - http(s)
    if parts.username:
        pair = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
        request.add_header("Authorization", "Basic " + base64.b64encode(pair.encode()).decode())
    try:
        context = ssl.create_default_context(cafile=ca_bundle)
        opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context))
        with opener.open(request, timeout=timeout_s) as response:
            return Answer(True, _server_time_s(response.headers.get("Date")))
    except urllib.error.HTTPError as error:
        with error:
            return Answer(False, _server_time_s(error.headers.get("Date")))
    except (OSError, ValueError):
        return Answer(False)


def _server_time_s(date: str | None) -> float | None:
    with contextlib.suppress(TypeError, ValueError):
        return email.utils.parsedate_to_datetime(date or "").timestamp()
    return None


def _without_credentials(url: str) -> str:
    parts = urllib.parse.urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def apt_packages(names: Sequence[str], timeout_s: float) -> dict[str, Answer]:
    """Return the availability of each package of the distribution in apt's lists or sources."""
    said = _apt(["apt-cache", "policy", *names])
    found = {}
    name = ""
    for line in said.splitlines():
        if line and not line[0].isspace():
            name = line.rstrip(":")
        elif line.strip().startswith("Candidate:"):
            found[name] = "(none)" not in line
    if all(found.get(name) for name in names):
        return {name: Answer(True) for name in names}
    # Without downloaded package lists, the result is whether a source answers.
    lists = Path("/var/lib/apt/lists")
    read = lists.is_dir() and any(
        path.name.endswith("_Packages") or "_Packages." in path.name for path in lists.iterdir()
    )
    answers = not read and _a_source_answers(timeout_s)
    return {name: Answer(found.get(name, False) or answers) for name in names}


def _a_source_answers(timeout_s: float) -> bool:
    said = _apt(["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE)"])
    urls = {
        f"{uri.rstrip('/')}/dists/{release}/InRelease"
        for uri, release in (line.split(" ", 1) for line in said.splitlines() if " " in line)
    }
    web = sorted(url for url in urls if url.startswith(("http://", "https://")))
    with ThreadPoolExecutor(PARALLEL) as pool:
        return any(answer.found for answer in pool.map(lambda url: _fetch(url, None, timeout_s), web))


def _apt(command: Sequence[str]) -> str:
    try:
        return run_command(command, PROGRAM_TIMEOUT_S, {**os.environ, "LC_ALL": "C"}).output
    except OSError:
        return ""
