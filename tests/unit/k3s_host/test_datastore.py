# SPDX-License-Identifier: GPL-3.0-or-later
"""The datastore of a stopped server: no data loss, and a failed reset with its cause."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.errors import HostError
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.model import Member
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s_host.cluster import REMOVED, stand_in
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s_host.datastore import (
    Datastore,
    copy_aside,
    move_aside,
    read_environment,
    reset,
)

LIMIT_S = 60.0
SUCCEEDS = "Managed etcd cluster membership has been reset, restart without --cluster-reset flag now."


@pytest.fixture
def store(tmp_path: Path) -> Datastore:
    found = Datastore(tmp_path / "data")
    (found.etcd / "member/snap").mkdir(parents=True)
    (found.etcd / "member/snap/db").write_text("data")
    (found.etcd / "name").write_text("s1-0a1b2c3d")
    return found


def program(folder: Path, text: str) -> str:
    """Return the path of a program that replaces the release."""
    path = folder / "k3s"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_a_datastore_is_renamed_once(store: Datastore) -> None:
    moved = Path(move_aside(store))
    assert moved.name.startswith("etcd-aside-")
    assert (moved / "member/snap/db").read_text() == "data"
    assert not store.etcd.exists()
    assert move_aside(store) == ""


def test_a_copy_is_complete_or_has_another_name(store: Datastore) -> None:
    draft = store.folder / "etcd-aside-draft"
    draft.mkdir()
    (draft / "half").touch()
    copied = Path(copy_aside(store))
    assert sorted(path.name for path in copied.rglob("*")) == sorted(path.name for path in store.etcd.rglob("*"))
    assert not draft.exists()
    assert store.exists


def test_nothing_to_copy_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="there is no datastore"):
        copy_aside(Datastore(tmp_path))


def test_a_reset_gets_the_environment_of_the_service_and_no_credential_as_argument(
    store: Datastore, tmp_path: Path
) -> None:
    (store.folder / "reset-flag").touch()
    environment = tmp_path / "k3s.service.env"
    environment.write_text('# comment\nHTTPS_PROXY="http://a \\"b\\""\nPLAIN=x\n')
    said = tmp_path / "said"
    binary = program(tmp_path, f'echo "$@|$HTTPS_PROXY|$PLAIN" > {said}; echo "{SUCCEEDS}"')
    reset(store, binary, environment, LIMIT_S)
    assert said.read_text() == 'server --cluster-reset|http://a "b"|x\n'
    assert not (store.folder / "reset-flag").exists()


def test_a_snapshot_is_an_argument_of_a_restore(store: Datastore, tmp_path: Path) -> None:
    snapshot, said = tmp_path / "snapshot", tmp_path / "said"
    binary = program(tmp_path, f'echo "$@" > {said}; echo "{SUCCEEDS}"')
    with pytest.raises(HostError, match="the file does not exist"):
        reset(store, binary, tmp_path / "none", LIMIT_S, str(snapshot))
    snapshot.touch()
    reset(store, binary, tmp_path / "none", LIMIT_S, str(snapshot))
    assert said.read_text() == f"server --cluster-reset --cluster-reset-restore-path={snapshot}\n"


FATAL = r"""echo 'time="t" level=fatal msg="Error: encrypted with \"different\" token"' >&2; exit 1"""


@pytest.mark.parametrize(
    ("text", "cause"),
    [(FATAL, 'encrypted with "different" token'), ("exit 3", "exit code 3"), ("exit 0", "exit code 0")],
)
def test_a_reset_that_fails_names_its_cause(store: Datastore, tmp_path: Path, text: str, cause: str) -> None:
    with pytest.raises(HostError, match=f"cannot reset etcd: .*{cause}"):
        reset(store, program(tmp_path, text), tmp_path / "none", LIMIT_S)


def test_an_absent_environment_is_that_of_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OWN", "1")
    assert read_environment(tmp_path / "none")["OWN"] == "1"


def test_a_node_that_stands_in_for_a_lost_one_asks_for_the_removal_of_its_member() -> None:
    node = stand_in(Member("1", "s3-0a1b2c3d", "10.0.0.13"))
    annotations = node["metadata"]["annotations"]
    assert node["metadata"]["name"] == "s3"
    assert annotations["etcd.k3s.cattle.io/node-name"] == "s3-0a1b2c3d"
    assert annotations["etcd.k3s.cattle.io/node-address"] == "10.0.0.13"
    assert annotations["etcd.k3s.cattle.io/remove"] == "true"
    assert REMOVED not in annotations
    assert node["spec"]["unschedulable"]
