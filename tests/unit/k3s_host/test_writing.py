# SPDX-License-Identifier: GPL-3.0-or-later
"""Files and tokens on a host: private from the start, whole or not at all, and hidden in diffs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.errors import HostError
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s_host import cluster
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s_host.access import Api
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s_host.service import Service
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s_host.writing import (
    HIDDEN,
    apply,
    changes,
    diff,
    generate,
    holds,
    join_token,
    read_token,
    remember,
    restore,
    write,
)

PASSWORD = "5f" * 32
HASH = "a" * 64


def test_files_are_written_once_and_foreign_fragments_removed(tmp_path: Path) -> None:
    folder = tmp_path / "config.yaml.d"
    folder.mkdir()
    (folder / "99-foreign.yaml").write_text("node-name: x\n")
    files = {str(tmp_path / "config.yaml"): "a: 1\n", str(folder / "50-host.yaml"): "{}\n"}
    planned = changes(files, {}, [str(folder)])
    assert [change.path.name for change in planned] == ["config.yaml", "50-host.yaml", "99-foreign.yaml"]
    apply(planned)
    assert sorted(path.name for path in folder.iterdir()) == ["50-host.yaml"]
    assert (tmp_path / "config.yaml").stat().st_mode & 0o7777 == 0o600
    assert changes(files, {}, [str(folder)]) == []
    (tmp_path / "config.yaml").chmod(0o644)
    assert len(changes(files, {}, [str(folder)])) == 1


def test_a_link_is_replaced_and_its_target_left(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("text")
    (tmp_path / "file").symlink_to(target)
    apply(changes({str(tmp_path / "file"): "text"}, {str(tmp_path / "file"): 0o644}, []))
    assert not (tmp_path / "file").is_symlink()
    assert target.exists()


def test_sensitive_files_are_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "registries.yaml"
    path.write_text(PASSWORD)
    shown = diff(changes({str(path): f"{PASSWORD} changed"}, {}, []), [str(path)])
    assert (shown[0]["before"], shown[0]["after"]) == (HIDDEN, HIDDEN)


def test_tokens_differ_and_are_read_again(tmp_path: Path) -> None:
    path = tmp_path / "server-token"
    assert generate() != generate()
    assert len(generate()) == 64
    assert read_token([path]) == ""
    write(path, f"{join_token(PASSWORD, 'server', HASH)}\n")
    assert path.read_text() == f"K10{HASH}::server:{PASSWORD}\n"
    assert path.stat().st_mode & 0o7777 == 0o600
    assert read_token([tmp_path / "none", path]) == PASSWORD


@pytest.mark.parametrize(
    ("found", "wanted", "equal"),
    [
        (PASSWORD, PASSWORD, True),
        (f"K10{HASH}::server:{PASSWORD}", PASSWORD, True),
        (PASSWORD, f"K10{HASH}::server:{PASSWORD}", False),
        ("6" * 64, PASSWORD, False),
        ("K10short::x", PASSWORD, False),
    ],
)
def test_a_token_file_is_kept_for_the_same_credentials(tmp_path: Path, found: str, wanted: str, equal: bool) -> None:
    path = tmp_path / "token"
    write(path, found)
    assert holds(path, wanted) is equal
    path.chmod(0o644)
    assert not holds(path, wanted)


def condition(kind: str, status: str) -> dict[str, str]:
    return {"type": kind, "status": status}


@pytest.mark.parametrize(
    ("conditions", "voter", "reason"),
    [
        ([], True, "Ready is not set, EtcdIsVoter is not set"),
        ([condition("Ready", "True")], True, "EtcdIsVoter is not set"),
        ([condition("Ready", "Unknown")], False, "Ready is Unknown"),
        ([condition("Ready", "True"), condition("EtcdIsVoter", "True")], True, ""),
        ([condition("Ready", "True")], False, ""),
    ],
)
def test_a_node_is_complete_when_it_is_ready_and_votes(
    conditions: list[dict[str, str]], voter: bool, reason: str
) -> None:
    assert cluster.node_reason({"status": {"conditions": conditions}}, voter=voter) == reason


def test_a_wait_ends_at_its_limit_with_the_last_reason(tmp_path: Path) -> None:
    site = cluster.Site(tmp_path, Api(tmp_path), 0.0)
    with pytest.raises(HostError, match="cannot continue: it is not there after 0 s: missing"):
        site.wait(lambda: "missing", "it is not there")


JOURNAL = """time="t" level=info msg="x"
time="t" level=fatal msg="Error: first"
time="t" level=fatal msg="Error: \\"too many learner members in cluster\\""
"""
REFUSED = """time="t" level=fatal msg="unknown flag: --x"
"""


def test_the_last_fatal_line_of_a_journal_is_the_cause() -> None:
    assert cluster.last_fatal("") == ""
    assert cluster.last_fatal(JOURNAL) == 'Error: "too many learner members in cluster"'
    assert cluster.RETRIED.search(cluster.last_fatal(JOURNAL))
    assert not cluster.RETRIED.search("Error: token CA hash does not match")


@pytest.mark.parametrize(
    ("service", "reason"),
    [
        (Service("activating"), "it is activating"),
        (Service("active", 7, started_s=985.0), "it has run for 15 s"),
        (Service("active", 7, started_s=979.0), ""),
    ],
)
def test_a_service_keeps_running_once_kubelet_would_have_ended(service: Service, reason: str) -> None:
    assert cluster.running_reason(service, 1000.0) == reason


def programs(folder: Path, monkeypatch: pytest.MonkeyPatch, **texts: str) -> None:
    """Put programs of the shell before those of the machine."""
    for name, text in texts.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)


FAILING = """restarts=$(cat "$0.restarts" 2>/dev/null || echo 0)
echo "LoadState=loaded"; echo "ActiveState=activating"; echo "NRestarts=$restarts"
echo $((restarts + 3)) > "$0.restarts"
"""


def test_a_service_that_keeps_failing_ends_the_wait_with_its_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "POLL_S", 0.0)
    programs(tmp_path, monkeypatch, systemctl=FAILING, journalctl=f"cat <<'END'\n{REFUSED}END")
    with pytest.raises(HostError, match=r"cannot start k3s-agent\.service: unknown flag: --x\. Read `journalctl"):
        cluster.wait_running(cluster.Site(tmp_path, Api(tmp_path), 600.0), "k3s-agent.service")


def test_an_error_that_passes_does_not_end_the_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs(tmp_path, monkeypatch, systemctl=FAILING, journalctl=f"cat <<'END'\n{JOURNAL}END")
    with pytest.raises(HostError, match=r"k3s-agent\.service does not keep running after 0 s: it is activating"):
        cluster.wait_running(cluster.Site(tmp_path, Api(tmp_path), 0.0), "k3s-agent.service")


def test_former_taints_of_the_settings_are_replaced_and_others_kept() -> None:
    present = [{"key": "mine", "effect": "NoSchedule"}, {"key": "old", "value": "1", "effect": "NoExecute"}]
    assert cluster.merged_taints(present, ["old=1:NoExecute"], ["new=2:NoSchedule"]) == [
        {"key": "mine", "effect": "NoSchedule"},
        {"key": "new", "effect": "NoSchedule", "value": "2"},
    ]


def test_former_files_come_back_until_a_change_has_proven_itself(tmp_path: Path) -> None:
    record, kept, new = tmp_path / "former.json", tmp_path / "kept", tmp_path / "new"
    kept.write_text("one")
    kept.chmod(0o644)
    for text in ("two", "three"):
        planned = changes({str(kept): text, str(new): text}, {}, [])
        remember(record, planned)
        apply(planned)
    assert record.stat().st_mode & 0o7777 == 0o600
    apply(restore(record))
    assert (kept.read_text(), kept.stat().st_mode & 0o7777, new.exists()) == ("one", 0o644, False)
    assert restore(record) == []
    record.unlink()
    assert restore(record) == []


def test_a_removed_file_comes_back(tmp_path: Path) -> None:
    record, folder = tmp_path / "former.json", tmp_path / "config.yaml.d"
    folder.mkdir()
    (folder / "own.yaml").write_text("debug: true")
    planned = changes({}, {}, [str(folder)])
    remember(record, planned)
    apply(planned)
    assert not list(folder.iterdir())
    apply(restore(record))
    assert (folder / "own.yaml").read_text() == "debug: true"
