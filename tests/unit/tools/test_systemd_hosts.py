# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import shutil
import tomllib
from pathlib import Path

import pytest

from tools import claims, systemd_hosts
from tools.systemd_hosts import HostsError, Podman, network, network_description, package_sources


def test_without_root_the_message_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(shutil, "which", lambda program: None if program == "mmdebstrap" else f"/usr/bin/{program}")
    with pytest.raises(HostsError, match=r"need root\. Run as root, or install them: apt-get install .* mmdebstrap\."):
        systemd_hosts.install_programs()


def test_without_apt_the_message_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda _program: None)
    with pytest.raises(HostsError, match=r"podman, .* and apt are missing\. Install them\."):
        systemd_hosts.install_programs()


def test_nothing_is_installed_where_every_program_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda program: f"/usr/bin/{program}")
    monkeypatch.setattr(systemd_hosts, "run", lambda *_arguments, **_options: pytest.fail("runs a program"))
    systemd_hosts.install_programs()


def test_without_an_image_the_message_names_how_to_make_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systemd_hosts, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(systemd_hosts, "install_programs", lambda: None)
    with pytest.raises(HostsError, match=r"holds no image\. Run `make hosts`\."):
        systemd_hosts.start(tmp_path / "hosts", network(1), ["one"])
    assert not (tmp_path / "hosts").exists()


def test_a_program_that_fails_is_an_error_with_what_it_said() -> None:
    with pytest.raises(HostsError, match=r"cannot run `sh -c`: no space left"):
        systemd_hosts.run(["sh", "-c", "echo no space left >&2; exit 3"])


def test_no_two_runs_share_a_network() -> None:
    numbers = {offset // claims.OFFSET_STEP for offset in claims.offsets(claims.platform_ports(), 32_768)}
    addresses = {network(number) for number in numbers}
    assert len(addresses) == len(numbers)
    interfaces = {str(network_description(address)["network_interface"]) for address in addresses}
    assert len(interfaces) == len(numbers)
    # Networks of one name share an iptables chain: traffic between hosts of the second one is masqueraded.
    assert len({str(network_description(address)["name"]) for address in addresses}) == len(numbers)
    # IFNAMSIZ of Linux, without the NUL.
    assert max(map(len, interfaces)) <= 15


def test_podman_keeps_everything_below_the_folder(tmp_path: Path) -> None:
    Podman(tmp_path, tmp_path / 'with "quotes"').prepare(network(1))
    engine = tomllib.loads((tmp_path / "containers.conf").read_text())
    storage = tomllib.loads((tmp_path / "storage.conf").read_text())["storage"]
    kept = [
        engine["engine"]["tmp_dir"],
        engine["network"]["network_config_dir"],
        storage["graphroot"],
        storage["runroot"],
    ]
    assert all(Path(path).is_relative_to(tmp_path) for path in kept)
    assert storage["options"]["additionalimagestores"] == [str(tmp_path / 'with "quotes"' / "storage")]


def test_hosts_get_the_package_sources_of_the_machine_and_the_folders_that_they_name(tmp_path: Path) -> None:
    index, wheels, bundle = tmp_path / "pypi/simple", tmp_path / "wheels", tmp_path / "ca.pem"
    for folder in (index, wheels):
        folder.mkdir(parents=True)
    bundle.touch()
    settings = {
        "index-url": "https://packages.example/simple",
        "extra-index-url": f"file://{index}",
        "find-links": f"{wheels} {tmp_path}/missing",
        "timeout": "180",
    }
    text, paths = package_sources(settings, {"SSL_CERT_FILE": str(bundle)})
    assert text.splitlines() == [
        "[global]",
        "index-url = https://packages.example/simple",
        f"extra-index-url = file://{index}",
        f"find-links = {wheels} {tmp_path}/missing",
        f"cert = {bundle}",
    ]
    # The pages of an index link to files beside its folder.
    assert {index.parent, wheels, bundle} <= set(paths)
    assert set(paths) - {index.parent, wheels, bundle} <= {systemd_hosts.CA_BUNDLE}


def test_an_image_has_users_of_its_own_numbers_and_no_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, cache = tmp_path / "root", tmp_path / "cache"
    for folder in ("root/.ssh", "etc/ssh/sshd_config.d", "etc/systemd/system", "usr/local/sbin"):
        (root / folder).mkdir(parents=True)
    (root / "etc/machine-id").write_text("")
    (root / "etc/ssh/ssh_host_ed25519_key.pub").write_text("ssh-ed25519 AAAA root@machine\n")
    (root / "etc/login.defs").write_text("#SYS_UID_MIN\t100\nSYS_UID_MAX\t999\nUMASK 022\n")
    (cache / "ssh").mkdir(parents=True)
    (cache / "ssh/id_ed25519.pub").write_text("ssh-ed25519 BBBB tests\n")
    monkeypatch.setattr(systemd_hosts, "CACHE", cache)
    systemd_hosts.customize(root)
    assert not (root / "etc/machine-id").exists()
    assert (root / "root/.ssh/authorized_keys").read_text() == "ssh-ed25519 BBBB tests\n"
    assert (cache / "ssh/known_hosts").read_text() == "* ssh-ed25519 AAAA root@machine\n"
    definitions = (root / "etc/login.defs").read_text().splitlines()
    assert [line for line in definitions if line.startswith("SYS_UID_MAX")] == ["SYS_UID_MAX 58999"]
    assert "UMASK 022" in definitions


def test_a_folder_without_hosts_is_removed_and_a_missing_one_is_none(tmp_path: Path) -> None:
    folder = tmp_path / "hosts"
    systemd_hosts.remove(folder)
    (folder / "storage").mkdir(parents=True)
    systemd_hosts.remove(folder)
    assert not folder.exists()


def test_a_link_in_place_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (tmp_path / "hosts").symlink_to(target)
    systemd_hosts.remove(tmp_path / "hosts")
    assert target.exists()


def test_the_hosts_of_a_place_are_removed_before_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    removed = []
    folder = tmp_path / "lakehouse-left"
    folder.mkdir()
    monkeypatch.setattr(claims, "TEMPORARY", tmp_path)
    monkeypatch.setattr(systemd_hosts, "remove", lambda path: removed.append((path, folder.exists())))
    claims.clean(folder, 0, "lakehouse-test-of-no-machine")
    assert removed == [(folder / "hosts", True)]
    assert not folder.exists()
