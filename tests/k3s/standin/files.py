# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates, keys and kubeconfigs of a server, with K3s' names."""

from __future__ import annotations

import base64
import json
import secrets
import time
from pathlib import Path

from tests.k3s.standin import tls
from tests.k3s.standin.common import write_private
from tests.k3s.standin.settings import Settings

# By file below server/tls, the common name of a CA.
AUTHORITIES = {"server-ca": "k3s-server-ca", "client-ca": "k3s-client-ca", "request-header-ca": "k3s-request-header-ca",
               "etcd/server-ca": "etcd-server-ca", "etcd/peer-ca": "etcd-peer-ca"}  # fmt: skip
BOTH = "serverAuth,clientAuth"
# By file below server/tls: its CA, its subject, its usages, and whether it contains the host name.
CERTIFICATES = {
    "serving-kube-apiserver": ("server-ca", "/CN=kube-apiserver", "serverAuth", True),
    "client-admin": ("client-ca", "/O=system:masters/CN=system:admin", "clientAuth", False),
    "client-supervisor": ("client-ca", "/O=system:masters/CN=system:k3s-supervisor", "clientAuth", False),
    "etcd/server-client": ("etcd/server-ca", "/CN=etcd-server", BOTH, True),
    "etcd/peer-server-client": ("etcd/peer-ca", "/CN=etcd-peer", BOTH, True),
    "etcd/client": ("etcd/server-ca", "/CN=etcd-client", "clientAuth", False),
}
# The bootstrap data, by K3s' name of each file.
BOOTSTRAP = {
    "ServerCA": "tls/server-ca.crt", "ServerCAKey": "tls/server-ca.key",
    "ClientCA": "tls/client-ca.crt", "ClientCAKey": "tls/client-ca.key",
    "RequestHeaderCA": "tls/request-header-ca.crt", "RequestHeaderCAKey": "tls/request-header-ca.key",
    "ETCDServerCA": "tls/etcd/server-ca.crt", "ETCDServerCAKey": "tls/etcd/server-ca.key",
    "ETCDPeerCA": "tls/etcd/peer-ca.crt", "ETCDPeerCAKey": "tls/etcd/peer-ca.key",
    "ServiceKey": "tls/service.key", "PasswdFile": "cred/passwd", "IPSECKey": "cred/ipsec.psk",
    "EncryptionConfig": "cred/encryption-config.json",
}  # fmt: skip


def prepare(settings: Settings) -> None:
    """Create the missing files of a server."""
    folder = settings.server_dir
    encryption, psk = folder / "cred" / "encryption-config.json", folder / "cred" / "ipsec.psk"
    if settings.flag("secrets-encryption") and not encryption.exists():
        key = {"name": "aescbckey", "secret": base64.b64encode(secrets.token_bytes(32)).decode()}
        resource = {"resources": ["secrets"], "providers": [{"aescbc": {"keys": [key]}}, {"identity": {}}]}
        write_private(encryption, json.dumps({"kind": "EncryptionConfiguration", "resources": [resource]}))
    if not psk.exists():
        write_private(psk, f"{secrets.token_hex(48)}\n")
    domain = settings.text("cluster-domain")
    names = [
        "127.0.0.1",
        "::1",
        "localhost",
        settings.node_name,
        *settings.addresses,
        *settings.items("node-external-ip"),
    ]
    names += [*settings.items("advertise-address"), settings.service_address(1), *settings.items("tls-san")]
    names += ["kubernetes", "kubernetes.default", "kubernetes.default.svc", f"kubernetes.default.svc.{domain}"]
    _create_certificates(folder / "tls", names)
    text = _kubeconfig(folder / "tls", settings.text("https-listen-port"))
    write_private(Path(settings.text("write-kubeconfig")), text, int(settings.text("write-kubeconfig-mode"), 8))
    write_private(folder / "cred" / "admin.kubeconfig", text)


def _create_certificates(folder: Path, names: list[str]) -> None:
    for path, name in AUTHORITIES.items():
        if not (folder / f"{path}.crt").exists():
            usages = ["basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign"]
            tls.issue(folder / path, f"/CN={name}@{int(time.time())}", usages)
    if not (folder / "service.key").exists():
        tls.run("openssl", "genrsa", "-out", str(folder / "service.key"), "2048")
    for path, (authority, subject, usage, named) in CERTIFICATES.items():
        if not tls.is_signed(folder / f"{path}.crt", folder / f"{authority}.crt"):
            tls.issue_certificate(folder / path, subject, usage, folder / authority, names if named else ())


def _kubeconfig(folder: Path, port: str) -> str:
    """Return the administrator's kubeconfig."""
    ca, certificate, key = (
        base64.b64encode((folder / name).read_bytes()).decode()
        for name in ("server-ca.crt", "client-admin.crt", "client-admin.key")
    )
    cluster = {"server": f"https://127.0.0.1:{port}", "certificate-authority-data": ca}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "default",
        "clusters": [{"name": "default", "cluster": cluster}],
        "contexts": [{"name": "default", "context": {"cluster": "default", "user": "default"}}],
        "users": [{"name": "default", "user": {"client-certificate-data": certificate, "client-key-data": key}}],
    }
    return json.dumps(content, indent=2)
