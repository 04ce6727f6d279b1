# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cluster that the catalogue is rendered for, as the settings describe it."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from ...inventory.cluster import DIGEST, REGISTRY
from ...inventory.variables import no_proxy
from ...shared.nearest import replacement
from ...shared.problem import Problem
from ..service import label
from ..words import Complaint

DOCKER_HUB = "docker.io"
CERTIFICATE = "-----BEGIN CERTIFICATE-----"


@dataclass(frozen=True)
class Cluster:
    """Names, mirrors and neighbours of a cluster; nothing of it is a secret.

    `secret_versions` says of each secret which value of it the cluster holds: a text that changes with the value and
    does not tell it. `ingress_*` say who may reach `ingress_services` from outside of the namespace. From
    `control_plane_cidrs` come the requests that the API server itself makes, when the health of services is asked for.
    """

    namespace: str = "crypto-lakehouse"
    image_registry: str = ""
    image_pull_secrets: tuple[str, ...] = ()
    image_digests: Mapping[str, str] = field(default_factory=dict)
    ca_bundle: str = ""
    database_ca_bundle: str = ""
    proxy_env: Mapping[str, str] = field(default_factory=dict)
    storage_class: str = ""
    autoscaled: tuple[str, ...] = ()
    monitoring_namespace: str = "monitoring"
    operator_namespace: str = "cnpg-system"
    ingress_services: tuple[str, ...] = ()
    ingress_namespaces: tuple[str, ...] = ()
    ingress_cidrs: tuple[str, ...] = ()
    control_plane_cidrs: tuple[str, ...] = ()
    secret_versions: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, settings: Mapping[str, Any]) -> tuple[Cluster, list[Problem]]:
        """Return the cluster that the settings describe, and what is wrong with them; a wrong one has its default."""
        problems: list[Problem] = []
        given = {}
        for name, kind in SHAPES.items():
            value = settings.get(name)
            if value is None or value == "":
                continue
            if not kind.fits(value):
                problems.append(Problem(variable(name), f"it is not {kind.noun}", kind.remedy))
            else:
                given[name] = kind.read(value)
        cluster = cls(**given)
        return cluster, [*problems, *cluster._problems()]

    def _problems(self) -> Iterator[Problem]:
        names = [("namespace", self.namespace), ("monitoring_namespace", self.monitoring_namespace)]
        names += [("operator_namespace", self.operator_namespace)]
        names += [("ingress_namespaces", name) for name in self.ingress_namespaces]
        objects = [("image_pull_secrets", name) for name in self.image_pull_secrets]
        objects += [("storage_class", self.storage_class)] if self.storage_class else []
        complaints = [
            *((setting, label(name)) for setting, name in names),
            *((setting, _object_name(name)) for setting, name in objects),
            ("image_registry", _registry(self.image_registry)),
            *(("image_digests", _digest(image, digest)) for image, digest in self.image_digests.items()),
            ("ca_bundle", _certificates(self.ca_bundle)),
            ("database_ca_bundle", _certificates(self.database_ca_bundle)),
            *(("proxy_env", _proxy(name, url)) for name, url in self.proxy_env.items()),
            *(("ingress_cidrs", _network(cidr)) for cidr in self.ingress_cidrs),
            *(("control_plane_cidrs", _network(cidr)) for cidr in self.control_plane_cidrs),
        ]
        for setting, complaint in complaints:
            if complaint:
                yield Problem(variable(setting), *complaint)

    def unknown_services(self, names: Mapping[str, Any]) -> Iterator[Problem]:
        """Yield settings that name services which do not run here; `names` are those that do."""
        for setting in ("autoscaled", "ingress_services"):
            for name in getattr(self, setting):
                if name not in names:
                    yield Problem(variable(setting), f"there is no service {name!r} here", replacement(name, names))

    def image(self, described: str) -> str:
        """Return an image as this cluster pulls it: from its registry, by its digest where one is given."""
        host, slash, rest = described.partition("/")
        named = bool(slash) and ("." in host or ":" in host or host == "localhost")
        path = rest if named else described if slash else f"library/{described}"
        pulled = f"{self.image_registry or (host if named else DOCKER_HUB)}/{path}"
        # A digest is found by the image as it is described, or by its name without the version.
        unversioned = re.sub(r":[^:/@]*$", "", described.partition("@")[0])
        digest = self.image_digests.get(described) or self.image_digests.get(unversioned)
        return f"{pulled.partition('@')[0]}@{digest}" if digest else pulled

    def client_environment(self, hosts: list[str]) -> dict[str, str]:
        """Return the variables of proxies; `hosts` and every name of the cluster are reached without one."""
        return no_proxy(self.proxy_env, [".svc", ".svc.cluster.local", ".cluster.local", *hosts])

    def proxy_ports(self) -> list[int]:
        """Return the ports on which proxies listen."""
        proxies = [urlsplit(url) for name, url in self.proxy_env.items() if name.lower() != "no_proxy"]
        return sorted({proxy.port or (443 if proxy.scheme == "https" else 80) for proxy in proxies if proxy.hostname})


@dataclass(frozen=True)
class Shape:
    """What a setting may hold, and how it is read."""

    noun: str
    remedy: str
    fits: Callable[[Any], bool]
    read: Callable[[Any], Any]


def _texts(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(entry, str) and entry for entry in value)


def _text_map(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(text, str) for pair in value.items() for text in pair)


TEXT = Shape("a text", "write a text", lambda value: isinstance(value, str), "".join)
TEXTS = Shape("a list of names", "write it as a list: [one, two]", _texts, lambda value: tuple(map("".join, value)))
TEXT_MAP = Shape(
    "a map of texts",
    "write it as `name: value` lines",
    _text_map,
    lambda value: {"".join(name): "".join(text) for name, text in sorted(value.items())},
)
SHAPES: Mapping[str, Shape] = {
    "namespace": TEXT,
    "image_registry": TEXT,
    "image_pull_secrets": TEXTS,
    "image_digests": TEXT_MAP,
    "ca_bundle": TEXT,
    "database_ca_bundle": TEXT,
    "proxy_env": TEXT_MAP,
    "storage_class": TEXT,
    "autoscaled": TEXTS,
    "monitoring_namespace": TEXT,
    "operator_namespace": TEXT,
    "ingress_services": TEXTS,
    "ingress_namespaces": TEXTS,
    "ingress_cidrs": TEXTS,
    "control_plane_cidrs": TEXTS,
    "secret_versions": TEXT_MAP,
}
"""The settings of a cluster; all but the texts are no settings that a service could name."""
STRUCTURED = frozenset(name for name, shape in SHAPES.items() if shape is not TEXT) | {
    "ca_bundle",
    "database_ca_bundle",
}


def variable(setting: str) -> str:
    """Return the inventory variable that a setting comes from."""
    return f"lakehouse_{setting}"


def _object_name(name: str) -> Complaint | None:
    if len(name) <= 253 and all(label(part) is None for part in name.split(".")):
        return None
    return f"{name!r} is not the name of an object", "use lower case letters, digits, inner hyphens and inner dots"


def _registry(registry: str) -> Complaint | None:
    if not registry or REGISTRY.fullmatch(registry):
        return None
    remedy = "write HOST, HOST:PORT or HOST/FOLDER, without https:// and without a / at its end"
    return f"{registry!r} is not a registry", remedy


def _digest(image: str, digest: str) -> Complaint | None:
    if DIGEST.fullmatch(digest):
        return None
    return f"{digest!r} is not the digest of {image}", "write sha256: and 64 hexadecimal digits"


def _certificates(bundle: str) -> Complaint | None:
    if not bundle or CERTIFICATE in bundle:
        return None
    return "it holds no certificate", f"give certificates in PEM, each beginning with {CERTIFICATE}"


def _proxy(name: str, url: str) -> Complaint | None:
    if not urlsplit(url).password:
        return None
    remedy = "name a proxy that asks for none: everybody who may look at a pod reads its environment"
    return f"{name} holds a password", remedy


def _network(cidr: str) -> Complaint | None:
    try:
        ipaddress.ip_network(cidr)
    except ValueError:
        return f"{cidr!r} is not a network", "write an address and the length of its prefix: 10.0.0.0/16"
    return None
