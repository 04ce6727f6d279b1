# SPDX-License-Identifier: GPL-3.0-or-later
"""`k3s_binary` in Ansible: from a mirror, from a folder without a network, and with wrong files."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
MODULE = "crypto_lakehouse.platform.k3s_binary"
VERSION = "v1.34.3+k3s1"
DATA, IMAGES = b"#!/bin/sh\ntouch executed\n", b"images"


class Release:
    """A mirror with one release, and a host with an older binary."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = folder / "mirror" / VERSION
        self.files.mkdir(parents=True)
        self.binary = folder / "bin/k3s"
        self.images = folder / "images"
        self.put("k3s", DATA)

    def put(self, name: str, data: bytes) -> None:
        (self.files / name).write_bytes(data)
        found = {each.name: each.read_bytes() for each in self.files.iterdir() if each.suffix != ".txt"}
        lines = [f"{hashlib.sha256(each).hexdigest()}  {known}\n" for known, each in found.items()]
        (self.files / "sha256sum-amd64.txt").write_text("".join(lines))

    def run(self, *words: str, **given: Any) -> dict[str, Any]:
        """Return the result of the module."""
        arguments = {"version": VERSION, "path": str(self.binary), "images_dir": str(self.images)}
        arguments |= {"record": str(self.folder / "record.json"), "url": f"file://{self.folder}/mirror", **given}
        command = [
            str(Path(sys.executable).with_name("ansible")),
            "localhost",
            "-m",
            MODULE,
            "-a",
            json.dumps(arguments),
        ]
        command += ["-e", f"ansible_python_interpreter={sys.executable}", *words]
        environment = {
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(REPOSITORY / ".venv/collections"),
            "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
        }
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        start = done.stdout.index("=> {") + len("=> ")
        found: dict[str, Any] = json.JSONDecoder().raw_decode(done.stdout[start:])[0]
        return found


@pytest.fixture
def release(tmp_path: Path) -> Release:
    return Release(tmp_path)


def test_a_wrong_file_of_a_mirror_leaves_the_installed_one(release: Release) -> None:
    release.binary.parent.mkdir()
    release.binary.write_bytes(b"old")
    (release.files / "k3s").write_bytes(b"changed on its way")
    said = release.run()["msg"]
    assert "its SHA-256 is" in said
    assert release.binary.read_bytes() == b"old"
    assert "cannot download" in release.run(version="v1.34.4+k3s1")["msg"]


def test_a_mirror_is_used_once(release: Release) -> None:
    assert release.run("--check")["changed"]
    assert not release.binary.exists()
    found = release.run()
    assert found["files"] == [str(release.binary)]
    assert release.binary.read_bytes() == DATA
    assert release.binary.stat().st_mode & 0o7777 == 0o755
    (release.files / "sha256sum-amd64.txt").unlink()
    assert not release.run()["changed"]
    release.binary.write_bytes(b"changed on the host")
    assert release.run(checksums={"k3s": hashlib.sha256(DATA).hexdigest()})["changed"]
    assert release.binary.read_bytes() == DATA
    assert not list(release.folder.rglob("executed"))


def test_a_folder_brings_binary_and_images(release: Release) -> None:
    folder = {"airgap_dir": str(release.files)}
    name = "k3s-airgap-images-amd64.tar.zst"
    (release.files / name).write_bytes(IMAGES)
    assert f"cannot verify {name}" in release.run(**folder)["msg"]
    assert not release.binary.exists()
    release.put(name, IMAGES)
    assert release.run("--check", **folder)["changed"]
    assert release.run(**folder)["files"] == [str(release.binary), str(release.images / name)]
    assert (release.images / name).read_bytes() == IMAGES
    assert not release.run(**folder)["changed"]
    (release.files / "k3s").write_bytes(b"changed in the folder")
    assert release.run(**folder)["changed"] is False
    release.binary.write_bytes(b"old")
    assert "its SHA-256 is" in release.run(**folder)["msg"]
    assert release.binary.read_bytes() == b"old"


@pytest.mark.parametrize("source", ["mirror", "folder"])
def test_a_staged_release_is_verified_first_and_installed_without_its_source(release: Release, source: str) -> None:
    stage = {"stage": True, "staging_dir": str(release.folder / "staged")}
    given = {"airgap_dir": str(release.folder / "mirror")} if source == "folder" else {}
    release.binary.parent.mkdir()
    release.binary.write_bytes(b"old")
    found = release.run(**stage, **given)
    assert found["program"] == str(release.folder / "staged" / VERSION / "k3s")
    assert (release.binary.read_bytes(), Path(found["program"]).read_bytes()) == (b"old", DATA)
    assert not release.run(**stage, **given)["changed"]
    (release.files / "k3s").write_bytes(b"changed after the verification")
    assert release.run(staging_dir=stage["staging_dir"], **given)["files"] == [str(release.binary)]
    assert release.binary.read_bytes() == DATA
    assert not Path(found["program"]).exists()
    assert not release.run(staging_dir=stage["staging_dir"], **given)["changed"]


def test_a_checksum_is_pinned_for_one_release_or_for_all(release: Release) -> None:
    right, wrong = hashlib.sha256(DATA).hexdigest(), "0" * 64
    assert "its SHA-256 is" in release.run(checksums={"k3s": wrong})["msg"]
    assert "its SHA-256 is" in release.run(checksums={"k3s": right, f"{VERSION}/k3s": wrong})["msg"]
    assert release.run(checksums={"k3s": wrong, f"{VERSION}/k3s": right, "v1.33.7+k3s3/k3s": wrong})["changed"]
