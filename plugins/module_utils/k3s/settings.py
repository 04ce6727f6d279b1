# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings of K3s that this collection knows: scope, default, and the settings that the role sets itself.

Names and defaults are those of pkg/cli/cmds/server.go and pkg/cli/cmds/agent.go of K3s. K3s ignores an unknown key of
`config.yaml` with a warning, so an unknown setting is refused here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Scope = Literal["cluster", "server", "node"]


@dataclass(frozen=True)
class Setting:
    """A setting of `config.yaml`.

    scope: `cluster` is equal on all servers, `server` may differ between them, `node` also exists on agents.
    many: takes a list. critical: K3s refuses a server whose value differs (CriticalControlArgs in
    pkg/daemons/config/types.go). immutable: cannot change once the cluster exists. at_registration: K3s applies it
    only when the node registers for the first time.
    """

    name: str
    scope: Scope
    many: bool = False
    default: Any = None
    critical: bool = False
    immutable: bool = False
    at_registration: bool = False


def _many(scope: Scope, *names: str) -> list[Setting]:
    return [Setting(name, scope, many=True) for name in names]


def _one(scope: Scope, *names: str) -> list[Setting]:
    return [Setting(name, scope) for name in names]


def _critical(name: str, default: Any, *, many: bool = False, immutable: bool = False) -> Setting:
    return Setting(name, "cluster", many, default, critical=True, immutable=immutable)


_SETTINGS: tuple[Setting, ...] = (
    _critical("cluster-cidr", ("10.42.0.0/16",), many=True, immutable=True),
    _critical("service-cidr", ("10.43.0.0/16",), many=True, immutable=True),
    _critical("cluster-dns", (), many=True, immutable=True),
    _critical("cluster-domain", "cluster.local", immutable=True),
    # Interrupted or late changes of encryption have lost Secrets for good: k3s#13763, k3s#13598.
    _critical("secrets-encryption", False, immutable=True),
    _critical("secrets-encryption-provider", "aescbc", immutable=True),
    _critical("flannel-backend", "vxlan"),
    _critical("flannel-ipv6-masq", False),
    _critical("flannel-external-ip", False),
    _critical("flannel-ip-masq-disable-random-fully", False),
    _critical("egress-selector-mode", "agent"),
    _critical("embedded-registry", False),
    _critical("disable-cloud-controller", False),
    _critical("disable-helm-controller", False),
    _critical("disable-network-policy", False),
    _critical("supervisor-metrics", False),
    *_many("cluster", "disable", "tls-san", "kube-apiserver-arg", "kube-scheduler-arg", "kube-controller-manager-arg"),
    *_many("cluster", "kube-cloud-controller-manager-arg", "etcd-arg"),
    *_one("cluster", "tls-san-security", "service-node-port-range", "servicelb-namespace", "disable-kube-proxy"),
    *_one("cluster", "disable-scheduler", "helm-job-image", "default-local-storage-path", "etcd-expose-metrics"),
    *_one("cluster", "https-listen-port", "system-default-registry", "enable-pprof"),
    *_one("server", "bind-address", "advertise-address", "advertise-port"),
    *_one("server", "write-kubeconfig", "write-kubeconfig-mode", "write-kubeconfig-group"),
    Setting("node-label", "node", many=True, at_registration=True),
    Setting("node-taint", "node", many=True, at_registration=True),
    Setting("node-name", "node", immutable=True),
    *_many("node", "node-ip", "node-external-ip", "node-internal-dns", "node-external-dns"),
    *_many("node", "kubelet-arg", "kube-proxy-arg", "airgap-extra-registry"),
    *_one("node", "debug", "v", "vmodule", "log", "alsologtostderr", "selinux", "lb-server-port", "pause-image"),
    *_one("node", "snapshotter", "private-registry", "container-runtime-endpoint", "image-service-endpoint", "docker"),
    *_one("node", "default-runtime", "disable-default-registry-endpoint", "nonroot-devices", "resolv-conf"),
    *_one("node", "flannel-iface", "flannel-conf", "flannel-cni-conf", "vpn-auth-file", "prefer-bundled-bin"),
    *_one("node", "protect-kernel-defaults", "image-credential-provider-bin-dir", "image-credential-provider-config"),
    *_one("node", "disable-apiserver-lb"),
)
SETTINGS: Mapping[str, Setting] = {setting.name: setting for setting in _SETTINGS}

_MEMBERSHIP = "leave it out: the role decides it from the state of all hosts"
_TOKENS = "leave it out: the role keeps tokens in files of mode 0600"
_DATASTORE = "leave it out: the role runs embedded etcd and decides by its members"
_SNAPSHOTS = "set `k3s_snapshots`: the role schedules, verifies and deletes snapshots"
_PORTS = "set `https-listen-port`: supervisor and API share one port"
_SPLIT = "leave it out: every server of the role runs etcd, the control plane and a kubelet"
OWNED: Mapping[str, str] = {
    **dict.fromkeys(("server", "cluster-init", "cluster-reset", "cluster-reset-restore-path"), _MEMBERSHIP),
    **dict.fromkeys(("token", "token-file", "agent-token", "agent-token-file", "cluster-secret"), _TOKENS),
    "kine-tls": _DATASTORE,
    **dict.fromkeys((f"datastore-{part}" for part in ("endpoint", "cafile", "certfile", "keyfile")), _DATASTORE),
    **dict.fromkeys((f"etcd-snapshot-{part}" for part in ("name", "dir", "compress", "retention")), _SNAPSHOTS),
    **dict.fromkeys(
        ("etcd-snapshot-schedule-cron", "etcd-snapshot-reconcile-interval", "etcd-disable-snapshots", "etcd-s3"),
        _SNAPSHOTS,
    ),
    **dict.fromkeys((f"etcd-s3-{part}" for part in ("endpoint", "endpoint-ca", "bucket", "region")), _SNAPSHOTS),
    **dict.fromkeys((f"etcd-s3-{part}" for part in ("folder", "access-key", "secret-key", "insecure")), _SNAPSHOTS),
    **dict.fromkeys((f"etcd-s3-{part}" for part in ("skip-ssl-verify", "timeout", "retention", "proxy")), _SNAPSHOTS),
    **dict.fromkeys(
        (f"etcd-s3-{part}" for part in ("session-token", "config-secret", "bucket-lookup-type")), _SNAPSHOTS
    ),
    **dict.fromkeys((f"{part}-port" for part in ("supervisor", "apiserver")), _PORTS),
    **dict.fromkeys(("disable-etcd", "disable-apiserver", "disable-controller-manager", "disable-agent"), _SPLIT),
    "data-dir": "set `k3s_data_dir`",
    "vpn-auth": "set `vpn-auth-file` to a file of mode 0600",
    "with-node-id": "leave it out: a node's name must be known before it registers",
    "rootless": "leave it out: the role installs system services",
}
