# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of a host, read from folders of files and the output of systemd, etcd and `ip`."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.action.k3s_info import clock_offset_s
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.digests import sha256
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.errors import HostError
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.configuration import merge
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.model import HostReport, Marker
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.paths import APPLIED_FILE, MARKER_FILE
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.tokens import token_hash
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s_host import (
    access,
    files,
    machine,
    service,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s_host import report as reports
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s_host.report import (
    Place,
    applied_digest,
    read_report,
)

PASSWORD = "5f" * 32
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
MARKER = {"cluster": "lake", "cluster_id": "11111111-1111-4111-8111-111111111111", "state": "joining"}


def write(root: Path, path: str, text: str) -> Path:
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")
    return target


def place(root: Path, **given: Any) -> Place:
    return Place("s1", root=root, **given)


def test_a_blank_host_has_nothing(tmp_path: Path) -> None:
    report = read_report(place(tmp_path, data_dir="/srv/k3s"))
    assert (report.role, report.version, report.sha256, report.service) == ("none", "", "", "absent")
    assert (report.data.path, report.data.exists, report.holds_data) == ("/srv/k3s", False, False)
    assert not report.answers
    assert report.system
    assert report.system.architecture == os.uname().machine
    assert HostReport.from_dict(json.loads(json.dumps(report.as_dict()))) == report


def test_a_server_that_is_stopped_still_shows_its_data(tmp_path: Path) -> None:
    write(tmp_path, "etc/rancher/k3s/config.yaml", "data-dir: /srv/k3s\n")
    (tmp_path / "srv/k3s/server/db/etcd/member").mkdir(parents=True)
    write(tmp_path, "srv/k3s/server/tls/server-ca.crt", CERTIFICATE)
    write(tmp_path, "srv/k3s/server/token", f"K10{'a' * 64}::server:{PASSWORD}\n")
    write(tmp_path, f"srv/k3s/{MARKER_FILE}", json.dumps(MARKER))
    write(tmp_path, "etc/rancher/node/password", "secret")
    data = read_report(place(tmp_path)).data
    assert (data.path, data.datastore, data.node_password) == ("/srv/k3s", "etcd", True)
    assert data.marker == Marker(**MARKER)  # type: ignore[arg-type]
    assert data.token_hash == token_hash(PASSWORD)
    assert len(data.ca_hash) == 64


def test_an_agent_shows_the_ca_that_it_received(tmp_path: Path) -> None:
    write(tmp_path, "var/lib/rancher/k3s/agent/server-ca.crt", CERTIFICATE)
    data = read_report(place(tmp_path)).data
    assert (data.datastore, len(data.ca_hash)) == ("none", 64)


def test_another_datastore_is_named(tmp_path: Path) -> None:
    write(tmp_path, "var/lib/rancher/k3s/server/db/state.db", "")
    assert read_report(place(tmp_path)).data.datastore == "sqlite"


@pytest.mark.parametrize("text", ["", "{", '{"cluster": "lake"}', '{"cluster": "l", "cluster_id": "i", "state": "x"}'])
def test_a_marker_that_cannot_be_read_is_none(tmp_path: Path, text: str) -> None:
    write(tmp_path, MARKER_FILE, text)
    assert files.read_marker(tmp_path) is None


def test_configuration_is_merged_without_credentials(tmp_path: Path) -> None:
    write(tmp_path, "etc/rancher/k3s/config.yaml", f"token: {PASSWORD}\ntls-san: [a]\nnode-name: one\n")
    write(tmp_path, "etc/rancher/k3s/config.yaml.d/50-host.yaml", "tls-san+:\n  - b\nnode-name: two\n")
    write(tmp_path, "etc/rancher/k3s/config.yaml.d/60-more.yml", f"etcd-s3-secret-key: {PASSWORD}\ntoken-file: /t\n")
    write(tmp_path, "etc/rancher/k3s/config.yaml.d/70-none.txt", "node-name: three\n")
    report = read_report(place(tmp_path))
    assert report.configuration == {"tls-san": ["a", "b"], "node-name": "two", "token-file": "/t"}
    assert PASSWORD not in json.dumps(report.as_dict())


@pytest.mark.parametrize("text", ["a: [", "- a\n", "just text\n"])
def test_a_configuration_that_cannot_be_read_names_its_line_and_none_of_its_text(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, "etc/rancher/k3s/config.yaml", text)
    with pytest.raises(HostError, match=f"cannot read {path}: line ") as caught:
        read_report(place(tmp_path))
    assert "text" not in str(caught.value)


PLAIN = """---
# a comment
one: text # a comment
two: "quoted # text"
three: 'it''s'
four: true
five: 6443
six: [a, "b"]
seven:
  - c=d:e
- f
eight+: ["g"]
"""
PARSED = {
    "one": "text",
    "two": "quoted # text",
    "three": "it's",
    "four": True,
    "five": 6443,
    "six": ["a", "b"],
    "seven": ["c=d:e", "f"],
    "eight+": ["g"],
}


def test_configurations_are_read_without_pyyaml() -> None:
    assert files.parse_plain(PLAIN, Path("x")) == PARSED


def test_a_structure_that_the_plain_parser_does_not_know_is_refused() -> None:
    with pytest.raises(HostError, match="line 2"):
        files.parse_plain("one: 1\n  two: {a: b}\n", Path("x"))


@pytest.mark.parametrize("settings", [{}, PARSED])
def test_written_configurations_are_read_again(tmp_path: Path, settings: dict[str, object]) -> None:
    text = files.as_yaml(settings)
    assert files.parse_plain(text, Path("x")) == settings
    write(tmp_path, "etc/rancher/k3s/config.yaml", text)
    assert read_report(place(tmp_path)).configuration == merge(settings)


SHOWN = """MainPID=42
NRestarts=3
ExecMainStartTimestamp=Mon 2026-11-30 12:00:01 UTC
ExecMainStartTimestampMonotonic=2500000
Result=exit-code
LoadState=loaded
ActiveState={}
SubState=x
"""


@pytest.mark.parametrize(
    ("active", "state"),
    [
        ("active", "active"),
        ("reloading", "active"),
        ("activating", "activating"),
        ("deactivating", "inactive"),
        ("failed", "failed"),
        ("inactive", "inactive"),
    ],
)
def test_states_of_units_are_told_apart(active: str, state: str) -> None:
    found = service.parse_service(SHOWN.format(active), boot_s=100.0)
    assert found == service.Service(state, 42, 102.5, "2026-11-30T12:00:01Z", 3, "exit-code")  # type: ignore[arg-type]


def test_a_unit_that_systemd_does_not_know_is_absent() -> None:
    assert service.parse_service("LoadState=not-found\nActiveState=inactive\n", 0.0) == service.Service()


def test_the_installed_unit_tells_the_role(tmp_path: Path) -> None:
    assert service.installed_role(tmp_path) == "none"
    write(tmp_path, "etc/systemd/system/k3s-agent.service", "")
    assert service.installed_role(tmp_path) == "agent"
    write(tmp_path, "etc/systemd/system/k3s.service", "")
    assert service.installed_role(tmp_path) == "server"


def test_version_and_hash_are_those_of_the_binary(tmp_path: Path) -> None:
    program = write(tmp_path, "usr/local/bin/k3s", "#!/bin/sh\necho 'k3s version v1.34.3+k3s1 (abc)'\necho go\n")
    assert service.read_binary(tmp_path, "/usr/local/bin/k3s") == ("", sha256(program))
    program.chmod(0o755)
    assert service.read_binary(tmp_path, "/usr/local/bin/k3s")[0] == "v1.34.3+k3s1"


def test_settings_count_as_applied_only_for_a_younger_process(tmp_path: Path) -> None:
    path = write(tmp_path, APPLIED_FILE, '{"digest": "abc"}')
    os.utime(path, (1000.0, 1000.0))
    assert applied_digest(tmp_path, service.Service("active", 1, 1000.5)) == "abc"
    assert applied_digest(tmp_path, service.Service("active", 1, 999.5)) == ""
    assert applied_digest(tmp_path, service.Service("inactive")) == ""


METRICS = """# HELP etcd_server_id Server or member ID in hexadecimal format. 1 for 'server_id' label with current ID.
etcd_server_id{server_id="8e9e05c52164694d"} 1
etcd_server_is_leader 1
etcd_server_proposals_applied_total 1.234e+03
etcd_server_version{server_version="3.5.26"} 1
etcd_server_version{server_version="3.5.25"} 0
etcd_network_peer_sent_bytes_total{To="a",From="b"} 5
"""


def test_metrics_of_etcd_name_member_leader_and_version() -> None:
    assert access.parse_metrics(METRICS) == {
        "etcd_server_id": "8e9e05c52164694d",
        "etcd_server_is_leader": "1",
        "etcd_server_proposals_applied_total": "1.234e+03",
        "etcd_server_version": "3.5.26",
    }


def link(name: str, *addresses: str, scope: str = "global") -> dict[str, object]:
    return {"ifname": name, "addr_info": [{"local": address, "scope": scope} for address in addresses]}


def test_the_address_of_the_default_route_is_first_and_those_of_k3s_are_left_out() -> None:
    links = [
        link("lo", "127.0.0.1", scope="host"),
        link("eth1", "192.168.0.1"),
        link("eth0", "10.0.0.1", "10.0.0.2"),
        link("eth0", "fe80::1", scope="link"),
        link("cni0", "10.42.0.1"),
        link("flannel.1", "10.42.0.0"),
        link("veth0a1b", "10.42.0.9"),
    ]
    assert machine.parse_addresses(json.dumps(links), ["10.0.0.2"]) == ("10.0.0.2", "192.168.0.1", "10.0.0.1")


TCP = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
LISTENING = "   0: 00000000:192B 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 77 1\n"
CONNECTED = "   1: 0100007F:1F90 0100007F:A000 01 00000000:00000000 00:00000000 00000000     0        0 78 1\n"
BOUND = "   0: 00000000:2118 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 79 2\n"


def test_listening_ports_are_taken(tmp_path: Path) -> None:
    write(tmp_path, "net/tcp", TCP + LISTENING + CONNECTED)
    write(tmp_path, "net/udp", TCP + BOUND)
    found = machine.taken_ports(tmp_path)
    assert [(port.number, port.protocol) for port in found] == [(6443, "tcp"), (8472, "udp")]


@pytest.mark.parametrize(
    ("path", "version"), [("cgroup.controllers", 2), ("memory/tasks", 1), ("systemd/tasks", 1), ("x", 0)]
)
def test_hierarchies_of_control_groups_are_told_apart(tmp_path: Path, path: str, version: int) -> None:
    write(tmp_path, f"sys/fs/cgroup/{path}", "")
    assert machine.cgroup_version(tmp_path) == version


def test_local_volumes_count_pods_that_cannot_move() -> None:
    volumes = [
        {"spec": {"local": {"path": "/x"}, "claimRef": {"namespace": "a", "name": "data"}}},
        {"spec": {"csi": {}, "claimRef": {"namespace": "a", "name": "remote"}}},
    ]
    pods = [
        {
            "metadata": {"namespace": "a"},
            "spec": {"nodeName": "s1", "volumes": [{"persistentVolumeClaim": {"claimName": name}}]},
        }
        for name in ("data", "remote")
    ]
    assert access._locally_bound({"items": volumes}, {"items": pods}) == ["s1"]


@pytest.mark.parametrize(
    ("began", "ended", "offset"),
    [(10.5, 11.0, 0.0), (9.0, 9.5, -1.0), (13.0, 14.5, 2.5), (10.0, 12.0, 0.0)],
)
def test_a_clock_differs_only_where_the_times_prove_it(began: float, ended: float, offset: float) -> None:
    assert clock_offset_s(10.0, began, ended, 12.0) == offset


def test_files_are_read_with_their_modes_and_without_hashes_of_tokens(tmp_path: Path) -> None:
    config = write(tmp_path, "etc/rancher/k3s/config.yaml", "debug: true\n")
    config.chmod(0o640)
    write(tmp_path, "etc/rancher/k3s/config.yaml.d/99-own.txt", "").chmod(0o600)
    write(tmp_path, "etc/rancher/k3s/server-token", "secret").chmod(0o644)
    link = tmp_path / "etc/registries.yaml"
    link.symlink_to(config)
    found = files.read_files(tmp_path, ["/etc/registries.yaml", "/etc/missing"])
    assert found == {
        "/etc/registries.yaml": {"sha256": "of a link", "mode": "0777"},
        "/etc/rancher/k3s/config.yaml": {"sha256": sha256(config), "mode": "0640"},
        "/etc/rancher/k3s/config.yaml.d/99-own.txt": {"sha256": hashlib.sha256(b"").hexdigest(), "mode": "0600"},
        "/etc/rancher/k3s/server-token": {"sha256": "", "mode": "0644"},
    }


@dataclass
class Readings:
    """Readings of a server, one after the other. slept: seconds between them."""

    found: list[dict[str, Any]]
    slept: float = 0.0

    def read(self, _folder: Path, _port: int) -> dict[str, Any]:
        return self.found.pop(0) if len(self.found) > 1 else self.found[0]

    def sleep(self, seconds: float) -> None:
        self.slept += seconds


READY = {"ready": True, "etcd": "members"}
STARTING: dict[str, Any] = {"ready": False}


@pytest.mark.parametrize(
    ("found", "wait_s", "expected", "slept"),
    [
        ([READY], 60.0, READY, 0.0),
        ([STARTING, {"ready": True}, READY], 60.0, READY, 4.0),
        ([STARTING, READY], 0.0, STARTING, 0.0),
        ([STARTING], 9.0, STARTING, 10.0),
    ],
)
def test_a_running_server_that_is_not_ready_is_read_again_for_a_time(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    found: list[dict[str, Any]],
    wait_s: float,
    expected: dict[str, Any],
    slept: float,
) -> None:
    for path in ("server-ca.crt", "client-admin.crt", "client-admin.key"):
        write(tmp_path, f"server/tls/{path}", "")
    for path in ("peer-ca.crt", "peer-server-client.crt", "peer-server-client.key"):
        write(tmp_path, f"server/tls/etcd/{path}", "")
    readings = Readings(list(found))
    monkeypatch.setattr(reports, "_read_cluster", readings.read)
    monkeypatch.setattr(reports, "time", SimpleNamespace(monotonic=lambda: readings.slept, sleep=readings.sleep))
    assert reports.read_cluster(tmp_path, 6443, wait_s) == expected
    assert readings.slept == slept


def test_a_host_without_credentials_of_a_server_is_not_waited_for(tmp_path: Path) -> None:
    assert reports.read_cluster(tmp_path, 6443, 3600.0) == {}
