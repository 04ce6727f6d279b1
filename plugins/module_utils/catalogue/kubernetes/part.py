# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One service as every object of it sees it: names, labels, texts, and what of it is a secret."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ..check import credentials_of
from ..placeholders import SECRET_VALUE
from ..resolve import Resolved
from ..service import Operator, Port, Service
from .layout import INSTANCE, ClusterLayout

Entry = dict[str, Any]

PLATFORM = "crypto-lakehouse"
NAME_LABEL, PART_OF_LABEL = "app.kubernetes.io/name", "app.kubernetes.io/part-of"
SCRAPED_LABEL = "lakehouse/scraped"
OPERATED_LABEL = "cnpg.io/cluster"
"""What CloudNativePG writes on the pods of a cluster of PostgreSQL."""
SUPERUSER_PASSWORD = "database_superuser_password"  # noqa: S105 - the name of a secret
POD_NAME = "LAKEHOUSE_POD_NAME"
MARKER = "${" + SECRET_VALUE


@dataclass(frozen=True)
class Part:
    """A service whose words hold no placeholder any more, on its cluster."""

    layout: ClusterLayout
    service: Service
    resolved: Resolved

    @property
    def name(self) -> str:
        """The name of the service, which its objects have too."""
        return self.service.name

    @property
    def operator(self) -> Operator | None:
        """The operator that runs it, None where its pods are the platform's own."""
        return self.layout.operator(self.service)

    @property
    def runs(self) -> bool:
        """Whether it has pods, whoever makes them."""
        return self.service.provided_by is None

    @property
    def is_stateful(self) -> bool:
        """Whether something of it outlives its pods."""
        return any(not volume.ephemeral for volume in self.service.volumes.values())

    @property
    def is_autoscaled(self) -> bool:
        """Whether an autoscaler owns the number of its pods."""
        return self.name in self.layout.cluster.autoscaled

    @property
    def is_replicated(self) -> bool:
        """Whether more than one of its pods can be there."""
        return self.service.replicas > 1 or self.is_autoscaled

    @cached_property
    def reached(self) -> Mapping[str, set[str]]:
        """The ports of others that it calls, by service; those of what its pods serve too are its own."""
        return self.layout.reached(self.service, self.resolved.neighbours)

    @property
    def certified_database(self) -> str | None:
        """The database that it calls and that has a certificate, None where there is none."""
        return next((name for name in sorted(self.reached) if self.layout.certified(name)), None)

    @property
    def account(self) -> str:
        """The service account that its pods run as."""
        return self.service.service_account or self.name

    @property
    def selector(self) -> dict[str, str]:
        """The labels that its pods are found by; they never change, since a workload's selector cannot."""
        return pods_of(self.layout, self.name)

    @property
    def labels(self) -> dict[str, str]:
        """The labels of its objects and pods."""
        image = self.operator.image if self.operator else self.service.image or ""
        version = re.search(r":([A-Za-z0-9][A-Za-z0-9._-]{0,61}[A-Za-z0-9])(@|$)", image)
        tag = {"app.kubernetes.io/version": version[1]} if version else {}
        return {**labels(self.name), "app.kubernetes.io/component": self.service.kind, **tag}

    def metadata(self, name: str | None = None, **more: Any) -> Entry:
        """Return the metadata of one of its objects."""
        namespace = self.layout.cluster.namespace
        return {"name": name or self.name, "namespace": namespace, "labels": self.labels, **more}

    def ports(self) -> list[tuple[str, str, Port]]:
        """Return every port of its pods with the service and the name that it has, its own first."""
        return [
            (service.name, name, port)
            for service in self.layout.served(self.name)
            for name, port in sorted(service.ports.items())
        ]

    def keys(self, names: Iterable[str]) -> dict[str, str]:
        """Return the key of an object that holds each of these files; keys have no folders."""
        flat = {name: name.replace("/", ".") for name in names}
        taken = list(flat.values())
        return {name: key if taken.count(key) == 1 else f"{digest(name)}-{key}" for name, key in flat.items()}

    @cached_property
    def plain_files(self) -> dict[str, str]:
        """Its files without secrets, by name."""
        return {name: text for name, text in self.resolved.files.items() if MARKER not in text}

    @cached_property
    def secret_files(self) -> dict[str, str]:
        """Its files with secrets, by name."""
        return {name: text for name, text in self.resolved.files.items() if MARKER in text}

    @cached_property
    def secret_environment(self) -> dict[str, str]:
        """Its variables with secrets, by name."""
        return {name: text for name, text in self.resolved.environment.items() if MARKER in text}

    @property
    def configuration(self) -> dict[str, str]:
        """The data of its ConfigMap, by key."""
        keys = self.keys(self.plain_files)
        return {keys[name]: text for name, text in self.plain_files.items()}

    @cached_property
    def secret_data(self) -> dict[str, str]:
        """The data of its Secret, by key; each value holds at least one marker, or is a user's name."""
        keys = self.keys(self.secret_files)
        data = {f"env.{name}": text for name, text in self.secret_environment.items()}
        data |= {f"file.{keys[name]}": text for name, text in self.secret_files.items()}
        data |= {f"secret.{name}": marker(name) for name in self.resolved.secret_files}
        for word, credentials in credentials_of(self.service):
            if word == "metrics":
                data |= {"metrics.username": credentials.username, "metrics.password": marker(credentials.secret)}
        return dict(sorted(data.items()))

    def secrets(self) -> set[str]:
        """Return the secrets that it reads or is looked at with."""
        if self.operator:
            return {SUPERUSER_PASSWORD}
        credentials = {credentials.secret for _word, credentials in credentials_of(self.service)}
        return {*self.resolved.secret_files, *self.resolved.secret_values, *credentials}

    def checksums(self) -> dict[str, str]:
        """Return annotations that change when what its pods read at their start changes.

        Values of secrets are not known here, so that their versions stand for them.
        """
        read = self.resolved.secret_files | self.resolved.secret_values
        versions = {name: self.layout.cluster.secret_versions.get(name, "") for name in sorted(read)}
        data = {key: text for key, text in self.secret_data.items() if not key.startswith("metrics.")}
        found: dict[str, Any] = {"configuration": self.configuration, "certificates": self.layout.cluster.ca_bundle}
        found |= {"secrets": [data, versions]} if data else {}
        return {f"lakehouse/{name}": digest(content) for name, content in sorted(found.items()) if content}


def pods_of(layout: ClusterLayout, name: str) -> dict[str, str]:
    """Return the labels that the pods of a service are found by, whoever makes them."""
    owner = layout.owner(name)
    is_operated = owner in layout.present and layout.operator(layout.present[owner]) is not None
    return {OPERATED_LABEL: owner} if is_operated else {NAME_LABEL: owner, PART_OF_LABEL: PLATFORM}


def labels(name: str) -> dict[str, str]:
    """Return the labels that every object has."""
    return {NAME_LABEL: name, PART_OF_LABEL: PLATFORM, "app.kubernetes.io/managed-by": PLATFORM}


def marker(secret: str) -> str:
    """Return what stands for the value of a secret until the objects are written."""
    return f"{MARKER}{secret}}}"


def digest(content: object) -> str:
    """Return a short text that is another one for another content."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def expanded(text: str) -> str:
    """Return a text that comes out of the kubelet's expansion of `$(NAME)` as it is, with the pod's name put in."""
    return re.sub(r"\$(?=[$(\0])", "$$", text).replace(INSTANCE, f"$({POD_NAME})")


def named(found: Mapping[str, Any]) -> list[Entry]:
    """Return a map as the list of named entries that the API has instead."""
    return [{"name": name, **value} for name, value in found.items()]
