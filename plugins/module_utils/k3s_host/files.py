# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of K3s on one host: configuration, data directory, marker and the record of applied settings."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..host.digests import sha256
from ..host.errors import HostError
from ..k3s.configuration import merge
from ..k3s.model import DataDirectory, Marker
from ..k3s.paths import APPLIED_FILE, MARKER_FILE
from ..k3s.shapes import ShapeError, from_plain
from ..k3s.tokens import TokenError, ca_hash, token_hash

CONFIGURATION = "etc/rancher/k3s"
# Tokens of a host, one a file.
TOKEN_FILES = ("server-token", "agent-token")
NODE_PASSWORD = "etc/rancher/node/password"  # noqa: S105 - a path
DEFAULT_DATA_DIR = "/var/lib/rancher/k3s"
# Settings whose value is a credential or may hold one.
_SECRET = frozenset({"token", "agent-token", "cluster-secret", "vpn-auth", "datastore-endpoint"})
_SECRET_S3 = re.compile(r"etcd-s3-(access-key|secret-key|session-token|proxy)", re.ASCII)
_LINE = re.compile(r"([A-Za-z0-9][\w.-]*\+?)\s*:(?:\s+(.*))?", re.ASCII)
_ENTRY = re.compile(r"\s*-\s+(.*)", re.ASCII)
_NUMBER = re.compile(r"[-+]?\d+", re.ASCII)


def read_configuration(root: Path) -> dict[str, Any]:
    """Return the settings of `config.yaml` and its fragments, merged as K3s merges them, without credentials.

    Raises `HostError` for a file that cannot be read as YAML.
    """
    main = root / CONFIGURATION / "config.yaml"
    folder = main.with_name("config.yaml.d")
    fragments = sorted(path for path in folder.glob("*") if path.suffix.lower() in (".yaml", ".yml"))
    layers = [_read_yaml(path) for path in (main, *fragments) if path.is_file()]
    return {name: value for name, value in merge(*layers).items() if not is_secret(name)}


def is_secret(name: str) -> bool:
    """Return whether the value of a setting is, or may hold, a credential."""
    return name in _SECRET or bool(_SECRET_S3.fullmatch(name))


def _read_yaml(path: Path) -> dict[str, Any]:
    text = path.read_text(encoding="utf-8")
    try:
        import yaml  # a host without PyYAML has the parser below
    except ImportError:
        return parse_plain(text, path)
    try:
        found = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise _unreadable(path, mark.line + 1 if mark else 1) from None
    if not isinstance(found, Mapping):
        raise _unreadable(path, 1)
    return {str(key): value for key, value in found.items()}


def _unreadable(path: Path, line: int) -> HostError:
    return HostError(f"cannot read {path}: line {line} is not a setting of K3s. Correct or remove the file.")


def parse_plain(text: str, path: Path) -> dict[str, Any]:
    """Return settings of the YAML that configurations of K3s use: scalars, and lists in blocks or brackets.

    Raises `HostError` for anything else.
    """
    found: dict[str, Any] = {}
    entries: list[Any] = []
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#") or stripped == "---":
            continue
        entry, setting = _ENTRY.fullmatch(line), _LINE.fullmatch(line.rstrip())
        if entry and found:
            entries.append(_scalar(entry[1].strip()))
            found[next(reversed(found))] = entries
        elif setting:
            entries = []
            found[setting[1]] = _scalar((setting[2] or "").strip())
        elif stripped != "{}":
            raise _unreadable(path, number)
    return found


def _scalar(text: str) -> Any:
    with contextlib.suppress(ValueError):
        return json.loads(text)
    plain = re.split(r"\s#", text, maxsplit=1)[0].strip()
    if plain[:1] == "'" and plain[-1:] == "'":
        return plain[1:-1].replace("''", "'")
    if plain[:1] == "[" and plain[-1:] == "]":
        return [_scalar(part.strip()) for part in plain[1:-1].split(",") if part.strip()]
    if plain in ("true", "false"):
        return plain == "true"
    return int(plain) if _NUMBER.fullmatch(plain) else plain


def as_yaml(settings: Mapping[str, Any]) -> str:
    """Return settings as YAML with a setting on each line, which `parse_plain` reads as well."""
    lines = [f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in sorted(settings.items())]
    return "\n".join(["# Written by crypto_lakehouse.platform; changes are replaced.", *(lines or ["{}"]), ""])


def read_files(root: Path, paths: Iterable[str]) -> dict[str, dict[str, str]]:
    """Return `sha256` and `mode` of files that exist, by their path on the host: the given ones and the configuration.

    The hash of a token is omitted: a chosen token could be guessed from it.
    """
    folder = root / CONFIGURATION
    configuration = [folder / "config.yaml", *sorted((folder / "config.yaml.d").glob("*"))]
    listed = {str(path): below(root, path) for path in paths}
    listed |= {f"/{path.relative_to(root)}": path for path in configuration}
    tokens = {f"/{CONFIGURATION}/{name}": folder / name for name in TOKEN_FILES}
    found = {name: {"sha256": _hash(path), "mode": _mode(path)} for name, path in listed.items() if _exists(path)}
    return found | {name: {"sha256": "", "mode": _mode(path)} for name, path in tokens.items() if _exists(path)}


def _exists(path: Path) -> bool:
    return path.is_symlink() or path.is_file()


def _hash(path: Path) -> str:
    return "of a link" if path.is_symlink() else sha256(path)


def _mode(path: Path) -> str:
    return f"{path.lstat().st_mode & 0o7777:04o}"


def read_data(root: Path, path: str) -> DataDirectory:
    """Return the state of a data directory; `path` is its path on the host."""
    folder = below(root, path)
    return DataDirectory(
        path=path,
        exists=folder.is_dir(),
        datastore=_datastore(folder),
        ca_hash=_ca_hash(folder),
        marker=read_marker(folder),
        node_password=(root / NODE_PASSWORD).is_file(),
        token_hash=_token_hash(folder / "server/token"),
    )


def below(root: Path, path: str) -> Path:
    """Return an absolute path of the host below the folder that holds its files."""
    return root / path.lstrip("/")


def _datastore(folder: Path) -> Any:
    if (folder / "server/db/etcd/member").is_dir():
        return "etcd"
    return "sqlite" if (folder / "server/db/state.db").is_file() else "none"


def _ca_hash(folder: Path) -> str:
    """Return the hash of the cluster's CA: that of a server, else the one that an agent received."""
    for name in ("server/tls/server-ca.crt", "agent/server-ca.crt"):
        with contextlib.suppress(OSError, ValueError):
            return ca_hash((folder / name).read_bytes())
    return ""


def _token_hash(path: Path) -> str:
    with contextlib.suppress(OSError, TokenError):
        return token_hash(path.read_text(encoding="utf-8").strip())
    return ""


def read_marker(folder: Path) -> Marker | None:
    """Return the marker in a data directory; None without one, and for one that cannot be read."""
    with contextlib.suppress(OSError, ValueError, ShapeError):
        return from_plain(Marker, json.loads((folder / MARKER_FILE).read_bytes()), MARKER_FILE)
    return None


def read_applied(folder: Path) -> tuple[str, float]:
    """Return the recorded hash of settings, and the time of the record in seconds; empty and 0 without a record."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        path = folder / APPLIED_FILE
        return str(json.loads(path.read_bytes())["digest"]), path.stat().st_mtime
    return "", 0.0
