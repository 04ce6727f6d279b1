# SPDX-License-Identifier: GPL-3.0-or-later
"""A removal on a host: deleted and kept files, links and mounts that lead elsewhere, and containers that end."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.errors import HostError
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.wiping import Scope, wipe_problems
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s_host.deletion import DEPTH, delete
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s_host.release import Record, Target
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s_host.wipe import (
    WRITTEN,
    Place,
    examine,
    remove,
)
from tests.integration.patience import wait_for

DATA = "/var/lib/rancher/k3s"
MARKER = '{"cluster": "lake", "cluster_id": "1", "state": "member"}'
OURS = {
    f"{DATA}/crypto-lakehouse.json": MARKER,
    f"{DATA}/crypto-lakehouse-applied.json": "{}",
    f"{DATA}/agent/containerd/x": "",
    f"{DATA}/server/db/etcd/member/wal": "",
    f"{DATA}/data/hash/bin/k3s": "",
    "/run/k3s/containerd/x": "",
    "/var/lib/kubelet/pods/1/x": "",
    "/var/lib/cni/x": "",
    "/etc/rancher/node/password": "",
    "/etc/rancher/k3s/config.yaml": f"{WRITTEN}; changes are replaced.\n",
    "/etc/rancher/k3s/server-token": "",
    "/usr/local/bin/k3s": "",
    "/etc/systemd/system/k3s.service": f"{WRITTEN}; changes are replaced.\n",
    "/etc/systemd/system/k3s-snapshot.timer": f"{WRITTEN}; changes are replaced.\n",
    "/etc/systemd/system/k3s.service.env": f"{WRITTEN}; changes are replaced.\n",
}
OTHERS = {
    f"{DATA}/storage/volume/data": "precious",
    "/etc/systemd/system/other.service": "",
    "/usr/local/bin/other": "",
    "/var/lib/other/data": "precious",
}


def build(root: Path, **given: object) -> Place:
    """Return a host with an installation, and files beside it."""
    for path, text in {**OURS, **OTHERS}.items():
        put(root, path, text)
    place = Place(replace(Scope("lake", DATA), **given), root=root)  # type: ignore[arg-type]
    Record.of("v1.34.3+k3s1", [Target(Path(place.binary), "0", 0o755)]).write(place.on(place.record))
    place.on("/usr/local/bin/kubectl").symlink_to("k3s")
    place.on("/usr/local/bin/ctr").symlink_to("other")
    return place


def put(root: Path, path: str, text: str = "") -> None:
    file = root / path.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def wiped(place: Place) -> list[str]:
    """Remove the installation of a test, whose units systemd does not know, and return the list made before."""
    found = examine(place)
    assert problems(place) == ""
    remove(place, replace(found, units=()))
    return found.lines()


def problems(place: Place) -> str:
    return "\n".join(str(problem) for problem in wipe_problems(place.scope, "host", examine(place).state))


def files(root: Path) -> list[str]:
    return sorted(f"/{path.relative_to(root)}" for path in root.rglob("*") if not path.is_dir() or path.is_symlink())


def test_what_was_installed_goes_and_all_else_stays(tmp_path: Path) -> None:
    place = build(tmp_path)
    listed = wiped(place)
    assert files(tmp_path) == sorted([*OTHERS, f"{DATA}/crypto-lakehouse.json", "/usr/local/bin/ctr"])
    assert listed[:2] == ["unit k3s-snapshot.timer", "unit k3s.service"]
    assert {path for path in listed if path.startswith("/")} == {
        *(f"{DATA}/{part}" for part in ("agent", "server", "data", "crypto-lakehouse-applied.json")),
        *("/run/k3s", "/var/lib/kubelet", "/var/lib/cni", "/etc/rancher/node", "/etc/rancher/k3s"),
        *("/usr/local/bin/kubectl", "/usr/local/bin/k3s", place.record),
        *(f"/etc/systemd/system/{name}" for name in ("k3s-snapshot.timer", "k3s.service", "k3s.service.env")),
    }
    assert examine(place).lines() == []


def test_volumes_go_with_their_marker_when_they_are_asked_for(tmp_path: Path) -> None:
    place = build(tmp_path, delete_data=True)
    assert f"{DATA}/storage" in wiped(place)
    assert not place.on("/var/lib/rancher").exists()
    assert not place.on("/etc/rancher").exists()
    assert examine(place).lines() == []


def test_a_removal_that_kept_volumes_can_be_followed_by_one_that_does_not(tmp_path: Path) -> None:
    wiped(build(tmp_path))
    later = Place(Scope("lake", DATA, delete_data=True), root=tmp_path)
    assert wiped(later) == [f"{DATA}/storage", f"{DATA}/crypto-lakehouse.json"]


def test_other_directories_are_honoured(tmp_path: Path) -> None:
    place = Place(Scope("lake", "/srv/k3s", "/srv/volumes", delete_data=True), root=tmp_path)
    for path in ("/srv/k3s/agent/x", "/srv/volumes/x", f"{DATA}/agent/x"):
        put(tmp_path, path)
    put(tmp_path, "/srv/k3s/crypto-lakehouse.json", MARKER)
    assert wiped(place) == ["/srv/k3s/agent", "/srv/volumes", "/srv/k3s/crypto-lakehouse.json"]
    assert files(tmp_path) == [f"{DATA}/agent/x"]


def test_a_removal_that_ends_anywhere_is_completed_by_the_next_one(tmp_path: Path) -> None:
    count = len(examine(build(tmp_path / "whole", delete_data=True)).paths)
    assert count == 17
    for end in range(count):
        root = tmp_path / str(end)
        place = build(root, delete_data=True)
        for path in examine(place).paths[:end]:
            delete(root, path)
        wiped(place)
        assert files(root) == sorted({*OTHERS, "/usr/local/bin/ctr"} - {f"{DATA}/storage/volume/data"})


REFUSED: dict[str, tuple[Scope, str]] = {
    "an empty value": (Scope("lake", ""), "it is empty"),
    "the root": (Scope("lake", "/"), "belongs to the system"),
    "one part": (Scope("lake", "/k3s"), "directly below the root"),
    "a home directory": (Scope("lake", "/home/me"), "it is a home directory"),
    "a directory of the system": (Scope("lake", "/var/lib"), "belongs to the system"),
    "below one": (Scope("lake", "/usr/share/k3s"), "not for data"),
    "relative": (Scope("lake", "var/lib/rancher/k3s"), "not absolute"),
    "dots": (Scope("lake", f"{DATA}/../.."), "`.` or `..`"),
    "another cluster": (Scope("sea", DATA), "it belongs to the cluster lake, not sea"),
    "a directory of others": (Scope("lake", "/var/lib/other"), "no marker shows"),
    "volumes of the system": (Scope("lake", DATA, "/var/lib", delete_data=True), "belongs to the system"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_directories(tmp_path: Path, case: str) -> None:
    build(tmp_path)
    scope, message = REFUSED[case]
    assert message in problems(Place(scope, root=tmp_path))


def link_directory(place: Place) -> None:
    place.on("/mnt/disk").mkdir(parents=True)
    place.on(DATA).rename(place.on("/mnt/disk/k3s"))
    place.on(DATA).symlink_to(place.on("/mnt/disk/k3s"))


def link_parent(place: Place) -> None:
    place.on("/var/lib/rancher").rename(place.on("/var/lib/moved"))
    place.on("/var/lib/rancher").symlink_to("moved")


def link_part(place: Place) -> None:
    shutil.rmtree(place.on(f"{DATA}/agent"))
    place.on(f"{DATA}/agent").symlink_to(place.on("/var/lib/other"))


def link_kubelet(place: Place) -> None:
    shutil.rmtree(place.on("/var/lib/kubelet"))
    place.on("/var/lib/kubelet").symlink_to("other")


def replace_unit(place: Place) -> None:
    place.on("/etc/systemd/system/k3s.service").write_text("[Service]\n")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (link_directory, "it leads to /mnt/disk/k3s by a symbolic link"),
        (link_parent, "it leads to /var/lib/moved/k3s by a symbolic link"),
        (link_part, f"cannot delete {DATA}/agent on host: it leads to /var/lib/other"),
        (link_kubelet, "cannot delete /var/lib/kubelet on host: it leads to /var/lib/other"),
        (replace_unit, "the unit k3s.service was not written by this collection"),
    ],
)
def test_hosts_that_are_not_touched(tmp_path: Path, change: Callable[[Place], None], message: str) -> None:
    place = build(tmp_path)
    change(place)
    assert message in problems(place)


def test_links_inside_go_and_their_targets_stay(tmp_path: Path) -> None:
    place = build(tmp_path)
    place.on(f"{DATA}/agent/link").symlink_to(place.on("/var/lib/other"))
    place.on(f"{DATA}/agent/file").symlink_to(place.on("/var/lib/other/data"))
    wiped(place)
    assert place.on("/var/lib/other/data").read_text() == "precious"


def test_a_directory_that_becomes_a_link_after_the_examination_is_not_followed(tmp_path: Path) -> None:
    place = build(tmp_path)
    found = replace(examine(place), units=())
    place.on("/var/lib/rancher").rename(place.on("/var/lib/moved"))
    place.on("/var/lib/rancher").symlink_to("other")
    place.on("/var/lib/other/k3s/agent").mkdir(parents=True)
    with pytest.raises(HostError, match="is not a directory"):
        remove(place, found)
    assert place.on("/var/lib/other/k3s/agent").exists()


def test_a_binary_and_a_unit_of_others_stay(tmp_path: Path) -> None:
    place = Place(Scope("lake", DATA), root=tmp_path)
    put(tmp_path, place.binary)
    put(tmp_path, "/etc/systemd/system/k3s.service", "[Service]\n")
    put(tmp_path, "/var/lib/kubelet/pods/x")
    assert (examine(place).lines(), problems(place)) == ([], "")


def test_a_deep_tree_is_deleted(tmp_path: Path) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    for _level in range(DEPTH * 4):
        os.mkdir("d", dir_fd=folder)
        child = os.open("d", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = child
    os.close(folder)
    assert delete(tmp_path, "/d")
    assert files(tmp_path) == []
    assert not delete(tmp_path, "/d")


# Runs in a separate mount namespace; its first argument is the root of a host.
MOUNTED = """
import subprocess, sys
from dataclasses import replace
from pathlib import Path
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.errors import HostError
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s_host.deletion import delete
from tests.unit.k3s_host.test_wipe import DATA, OTHERS, build, examine, files, problems, put, remove, wiped
root = Path(sys.argv[1])
def mount(*words):
    Path(words[-1]).mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", *words], check=True)
"""


def in_namespace(root: Path, text: str) -> None:
    """Run a program with mounts that no other process sees."""
    private = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    command = [*private, sys.executable, "-c", MOUNTED + textwrap.dedent(text), str(root)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr


def test_volumes_that_are_mounted_in_pods_are_unmounted_and_stay(tmp_path: Path) -> None:
    in_namespace(
        tmp_path,
        """
        place = build(root)
        pod = f"{root}/var/lib/kubelet/pods/1/volumes/v"
        mount("--bind", f"{root}{DATA}/storage/volume", pod)
        mount("-t", "tmpfs", "none", f"{pod}-secret")
        mount("-t", "tmpfs", "none", f"{pod}-secret")
        mount("-t", "tmpfs", "none", f"{pod}-secret/deeper")
        mount("-t", "tmpfs", "none", f"{root}/run/k3s/containerd/rootfs with a space")
        listed = wiped(place)
        assert "mount /run/k3s/containerd/rootfs with a space" in listed
        assert (root / DATA.lstrip("/") / "storage/volume/data").read_text() == "precious"
        assert not (root / "var/lib/kubelet").exists()
        assert examine(place).lines() == []
        """,
    )


def test_mounts_of_others_are_neither_unmounted_nor_entered(tmp_path: Path) -> None:
    in_namespace(
        tmp_path,
        """
        place = build(root)
        mount("--bind", f"{root}/var/lib/other", f"{root}{DATA}/server/other")
        assert f"{DATA}/server/other is mounted there" in problems(place)
        before = files(root)
        try:
            delete(root, f"{DATA}/server")
        except HostError as error:
            assert "something is mounted there" in str(error)
        else:
            raise AssertionError
        assert (root / "var/lib/other/data").read_text() == "precious"
        """,
    )


def test_a_data_directory_and_a_kubelet_on_disks_of_their_own_are_emptied(tmp_path: Path) -> None:
    in_namespace(
        tmp_path,
        """
        mount("-t", "tmpfs", "none", f"{root}{DATA}")
        mount("-t", "tmpfs", "none", f"{root}/var/lib/kubelet")
        place = build(root, delete_data=True)
        wiped(place)
        assert list((root / DATA.lstrip("/")).iterdir()) == []
        assert list((root / "var/lib/kubelet").iterdir()) == []
        """,
    )


def test_containers_of_this_installation_end_and_other_processes_do_not(tmp_path: Path) -> None:
    place = build(tmp_path)
    shim = place.on(f"{DATA}/data/hash/bin/containerd-shim-runc-v2")
    shutil.copy("/bin/sh", shim)
    other = subprocess.Popen(["sleep", "1000"])
    pod = subprocess.Popen([shim, "-c", "sleep 1001 & wait"], stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        wait_for(lambda: len(examine(place).processes) == 2, "a container")
        listed = [line.rpartition(" ")[2] for line in examine(place).lines() if line.startswith("process ")]
        assert listed == ["sleep", "containerd-shim-runc-v2"]
        wiped(place)
        pod.wait(10)
        assert other.poll() is None
        assert examine(place).processes == ()
    finally:
        for process in (other, pod):
            process.kill()
            process.wait()
