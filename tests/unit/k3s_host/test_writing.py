# SPDX-License-Identifier: GPL-3.0-or-later
"""Files and tokens on a host: private from their creation, written atomically, and hidden in diffs."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.errors import HostError
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s_host import cluster
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s_host.access import Api
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


def test_a_wait_ends_at_its_limit_with_the_last_reason(tmp_path: Path) -> None:
    site = cluster.Site(tmp_path, Api(tmp_path), 0.0)
    with pytest.raises(HostError, match="cannot continue: it is not there after 0 s: missing"):
        site.wait(lambda: "missing", "it is not there")


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
