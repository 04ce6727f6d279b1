# SPDX-License-Identifier: GPL-3.0-or-later
"""Snapshots: the server's part of `k3s etcd-snapshot`, and that command."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
import zipfile
from pathlib import Path

from tests.k3s.standin import access
from tests.k3s.standin.api import ApiError, Object, StandInApi
from tests.k3s.standin.common import FatalError, log, timestamp
from tests.k3s.standin.etcd import Member
from tests.k3s.standin.settings import Settings

RECORDS = "/apis/k3s.cattle.io/v1/etcdsnapshotfiles"
SAVE_LIMIT_S = 300.0


class Snapshots:
    """The snapshots of one server."""

    def __init__(self, settings: Settings, member: Member) -> None:
        self._settings, self._member = settings, member
        self._api = StandInApi(member.client)

    def answer(self, request: Object) -> Object:
        """Save, list, prune or delete; the request contains the operation."""
        folder = self._folder(request.get("dir") or self._settings.text("etcd-snapshot-dir"))
        if request["operation"] == "save":
            return {"created": [self._save(folder, request)], "deleted": []}
        files = sorted((path for path in folder.iterdir() if path.is_file()), key=_moment)
        if request["operation"] == "list":
            return {
                "apiVersion": "v1",
                "kind": "List",
                "metadata": {},
                "items": [self._describe(path) for path in files],
            }
        names = request["names"]
        if request["operation"] == "prune":
            ours, kept = (
                [path.name for path in files if path.name.startswith(request["name"])],
                int(request["retention"]),
            )
            names = ours[:-kept] if kept else []
        return {"created": [], "deleted": [name for name in names if self._delete(folder / Path(name).name)]}

    def _folder(self, named: str) -> Path:
        """Return the folder; only the default one is created."""
        default = self._settings.server_dir / "db" / "snapshots"
        if named and Path(named) != default:
            if not Path(named).is_dir():
                raise FatalError(f"failed to get etcd-snapshot-dir: stat {named}: no such file or directory")
            return Path(named)
        default.mkdir(parents=True, exist_ok=True, mode=0o700)
        return default

    def _save(self, folder: Path, request: Object) -> str:
        """Save a snapshot and record it in the API with the hash of its required token; return its name."""
        path = folder / f"{request['name']}-{self._settings.node_name}-{int(time.time())}"
        log("info", f"Saving etcd snapshot to {path}")
        self._member.etcdctl("snapshot", "save", str(path))
        path.chmod(0o600)
        if request["compress"]:
            with zipfile.ZipFile(f"{path}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
                archive.write(path, path.name)
            path.unlink()
            path = Path(f"{path}.zip")
        passwords = (self._settings.server_dir / "cred" / "passwd").read_text(encoding="utf-8").splitlines()
        record = self._describe(path)
        digest = hashlib.sha256(passwords[1].split(",")[0].encode()).hexdigest()[:12]
        record["metadata"]["annotations"] = {"etcd.k3s.cattle.io/snapshot-token-hash": digest}
        self._api.request("POST", RECORDS, record)
        return path.name

    def _describe(self, path: Path) -> Object:
        node, location = self._settings.node_name, f"file://{path}"
        digest = hashlib.sha256(f"{node}{location}".encode()).hexdigest()[:6]
        labels = {"etcd.k3s.cattle.io/snapshot-storage-node": node}
        return {
            "apiVersion": "k3s.cattle.io/v1",
            "kind": "ETCDSnapshotFile",
            "metadata": {"name": f"local-{path.name.lower()}-{digest}", "labels": labels},
            "spec": {"snapshotName": path.name, "nodeName": node, "location": location},
            "status": {"readyToUse": True, "size": str(path.stat().st_size), "creationTime": _moment(path)},
        }

    def _delete(self, path: Path) -> bool:
        if not path.exists():
            log("info", f"Snapshot {path.name} not found locally")
            return False
        record = self._describe(path)["metadata"]["name"]
        path.unlink()
        with contextlib.suppress(ApiError):
            self._api.request("DELETE", f"{RECORDS}/{record}")
        return True


def _moment(path: Path) -> str:
    """Return the time of a snapshot, which is the suffix of its name."""
    suffix = path.name.removesuffix(".zip").rpartition("-")[2]
    return timestamp(int(suffix) if suffix.isdigit() else path.stat().st_mtime)


def unpack(path: Path, server_dir: Path) -> Path:
    """Return the path of an uncompressed snapshot; raise FatalError if it does not exist."""
    if not path.is_file():
        raise FatalError(
            f"etcd: snapshot path must be a file, not a directory: {path}"
            if path.is_dir()
            else f"etcd: snapshot path does not exist: {path}"
        )
    if path.suffix != ".zip":
        return path
    log("info", f"Decompressing etcd snapshot file: {path}")
    with zipfile.ZipFile(path) as archive:
        return Path(archive.extract(archive.namelist()[0], server_dir / "db"))


def run(settings: Settings) -> None:
    """Run `k3s etcd-snapshot SUBCOMMAND` by a request to the local server."""
    settings.check()
    command, *names = settings.words or ["save"]
    operation = {"ls": "list", "l": "list"}.get(command, command)
    if operation not in ("save", "list", "prune", "delete"):
        raise FatalError(f"No help topic for '{command}'")
    if operation == "delete" and not names:
        raise FatalError("no snapshots given for removal")
    request = {"operation": operation, "names": names, "compress": settings.flag("snapshot-compress")}
    request |= {
        "name": settings.text("name"),
        "dir": settings.text("dir"),
        "retention": settings.text("snapshot-retention"),
    }
    token = settings.server_dir / "token"
    if not token.exists():
        raise FatalError(f"open {token}: no such file or directory")
    server = access.validate("https://127.0.0.1:6443", token.read_text(encoding="utf-8").strip(), "server")
    try:
        answer = json.loads(server.request("POST", "/db/snapshot", request, limit_s=SAVE_LIMIT_S))
    except access.RequestError as error:
        raise FatalError(f"{error}: {error.body}") from error
    for word in ("saved", "deleted"):
        for name in answer.get({"saved": "created"}.get(word, word), []):
            log("info", f"Snapshot {name} {word}.")
    if operation == "list":
        print(json.dumps(answer) if settings.text("output") == "json" else _table(answer["items"]))


def _table(items: list[Object]) -> str:
    rows = [("Name", "Location", "Size", "Created")]
    rows += [
        (each["spec"]["snapshotName"], each["spec"]["location"], each["status"]["size"], each["status"]["creationTime"])
        for each in items
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        " ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
