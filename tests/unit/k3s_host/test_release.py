# SPDX-License-Identifier: GPL-3.0-or-later
"""Release files of K3s: a wrong one never replaces an installed one."""

from __future__ import annotations

import hashlib
import io
import struct
from dataclasses import replace
from pathlib import Path

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.action.k3s_binary import release_files
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.errors import HostError
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s_host.release import (
    Record,
    Target,
    address,
    expected_sum,
    install,
    names,
    needed_files,
    parse_sums,
)

OLD = b"old binary"


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def program(machine: int) -> bytes:
    """Return the ELF header of a program for a machine."""
    return b"\x7fELF" + bytes(14) + struct.pack("<H", machine) + b"rest"


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    path = tmp_path / "bin/k3s"
    path.parent.mkdir()
    path.write_bytes(OLD)
    return path


@pytest.mark.parametrize(
    ("data", "sum_of", "message"),
    [
        (b"truncated", b"whole", "its SHA-256 is"),
        (program(183), program(183), "built for aarch64, and the host is x86_64"),
        (program(40), program(40), "built for armv7l"),
        (program(243), program(243), "built for machine 243"),
    ],
    ids=["truncated", "aarch64", "armv7l", "riscv64"],
)
def test_a_wrong_file_leaves_the_installed_one(installed: Path, data: bytes, sum_of: bytes, message: str) -> None:
    with pytest.raises(HostError, match=message):
        install(Target(installed, digest(sum_of), 0o755), io.BytesIO(data), "x86_64")
    assert installed.read_bytes() == OLD
    assert list(installed.parent.iterdir()) == [installed]


def test_a_verified_file_replaces_the_installed_one(installed: Path) -> None:
    data = program(62)
    target = Target(installed, digest(data), 0o755)
    assert not target.installed
    install(target, io.BytesIO(data), "x86_64")
    assert replace(target).installed
    installed.chmod(0o777)
    assert not replace(target).installed


SUMS = f"{'A' * 64}  k3s\n{'b' * 64} *k3s-arm64\nnot a line\n\n"


def test_checksum_files_are_read() -> None:
    assert parse_sums(SUMS) == {"k3s": "a" * 64, "k3s-arm64": "b" * 64}


def test_a_file_without_a_checksum_is_refused() -> None:
    with pytest.raises(HostError, match="cannot verify k3s-armhf"):
        expected_sum("k3s-armhf", {}, lambda: SUMS)


def test_a_pinned_checksum_is_used_instead_of_the_file() -> None:
    def fail() -> str:
        raise AssertionError

    assert expected_sum("k3s", {"k3s": "C" * 64}, fail) == "c" * 64
    assert expected_sum("k3s", {"k3s-arm64": "C" * 64}, lambda: SUMS) == "a" * 64


def test_names_follow_the_architecture() -> None:
    assert (names("x86_64").binary, names("x86_64").sums) == ("k3s", "sha256sum-amd64.txt")
    assert (names("aarch64").binary, names("aarch64").sums) == ("k3s-arm64", "sha256sum-arm64.txt")
    assert (names("armv7l").binary, names("armv7l").images[0]) == ("k3s-armhf", "k3s-airgap-images-arm.tar.zst")
    with pytest.raises(HostError, match="no release for riscv64"):
        names("riscv64")


def test_the_version_is_quoted_in_the_address() -> None:
    assert address("https://mirror/k3s/", "v1.34.3+k3s1", "k3s") == "https://mirror/k3s/v1.34.3%2Bk3s1/k3s"


def test_a_folder_without_binary_or_checksums_is_refused(tmp_path: Path) -> None:
    amd64 = names("x86_64")
    with pytest.raises(HostError, match="holds no k3s"):
        needed_files(amd64, release_files(tmp_path, {}))
    (tmp_path / "k3s").write_bytes(OLD)
    with pytest.raises(HostError, match=r"sha256sum-amd64\.txt"):
        needed_files(amd64, release_files(tmp_path, {}))
    pinned = {"k3s": digest(OLD).upper()}
    assert needed_files(amd64, release_files(tmp_path, pinned)) == {"k3s": digest(OLD)}
    (tmp_path / "k3s-airgap-images-amd64.tar.gz").write_bytes(b"images")
    with pytest.raises(HostError, match="cannot verify k3s-airgap"):
        needed_files(amd64, release_files(tmp_path, pinned))
    (tmp_path / "sha256sum-amd64.txt").write_text(f"{digest(b'images')}  k3s-airgap-images-amd64.tar.gz\n")
    assert len(needed_files(amd64, release_files(tmp_path, pinned))) == 2


def test_a_host_needs_the_files_of_its_architecture_alone(tmp_path: Path) -> None:
    for name in ("k3s", "k3s-arm64", "k3s-airgap-images-amd64.tar"):
        (tmp_path / name).write_bytes(OLD)
    (tmp_path / "sha256sum-arm64.txt").write_text(f"{digest(OLD)}  k3s-arm64\n")
    assert needed_files(names("aarch64"), release_files(tmp_path, {})) == {"k3s-arm64": digest(OLD)}


def test_a_record_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "share/k3s.json"
    record = Record.of("v1.34.3+k3s1", [Target(Path("/b"), "2", 0o755), Target(Path("/a"), "1", 0o644)])
    assert Record.read(path) == Record()
    record.write(path)
    assert Record.read(path) == record
    path.write_text("[]")
    assert Record.read(path) == Record()
