# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where services are found on a cluster, and what the names of placeholders stand for in a pod."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

from ...shared.problem import Problem
from ..host.layout import EVERYWHERE, folders
from ..order import providers
from ..placeholders import Scope
from ..service import Catalogue, Operator, Port, Service, port_number
from ..words import Complaint, path_to
from .cluster import Cluster, variable

FILES, SECRETS = "/etc/lakehouse", "/run/lakehouse/secrets"
CA_FOLDER, DATABASE_CA_FOLDER = "/etc/lakehouse-ca", "/etc/lakehouse-database-ca"
DATABASE_PORT = "postgresql"
"""The port of a service that PostgreSQL's clients call."""
DATABASE_CA_REMEDY = (
    "name a file of these authorities; RDS's are at https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem"
)
INSTANCE = "\0instance\0"
"""Stands for the pod's name until the texts are written: no text of the catalogue can hold a NUL."""
NAME_LENGTH = 52
"""What a pod's or job's own ending leaves of the 63 characters of a label."""


@dataclass(frozen=True)
class Address:
    """A name and a port under which programs of the cluster find a service."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True)
class ClusterLayout:
    """The catalogue on one cluster: which process serves what, and under which names."""

    catalogue: Catalogue
    cluster: Cluster

    @cached_property
    def present(self) -> dict[str, Service]:
        """The services that run on the cluster, by name."""
        return {
            service.name: service
            for service in self.catalogue.live()
            if self.catalogue.target not in service.managed and not self._is_broken(service)
        }

    def _is_broken(self, service: Service) -> bool:
        """Say whether the process of a service could not be read, which is reported already."""
        return service.provided_by is not None and service.provided_by not in self.catalogue.services

    def owner(self, name: str) -> str:
        """Return the service whose pods serve `name`."""
        return self.catalogue.services[name].provided_by or name

    def served(self, owner: str) -> list[Service]:
        """Return the services that the pods of `owner` serve, itself first."""
        others = [service for service in self.present.values() if service.provided_by == owner]
        return [self.present[owner], *others]

    def operator(self, service: Service) -> Operator | None:
        """Return the operator that runs a service here, None where its pods are the platform's own."""
        return service.operated_by.get(self.catalogue.target)

    def host(self, service: Service) -> str:
        """Return the name that leads to a service of the cluster."""
        # CloudNativePG makes the service that follows the primary.
        name = f"{service.name}-rw" if self.operator(service) else service.name
        return f"{name}.{self.cluster.namespace}.svc"

    @cached_property
    def addresses(self) -> dict[str, dict[str, Address]]:
        """Where each port of each service is found, by the names of both."""
        here = {
            name: {port: Address(self.host(service), found.port) for port, found in service.ports.items()}
            for name, service in self.present.items()
        }
        elsewhere = {
            service.name: {
                port: address
                for port, found in service.ports.items()
                if (address := read_address(self._reached_at(service, port, found, [])))
            }
            for service in self.catalogue.live()
            if service.name not in self.present
        }
        return here | elsewhere

    def _reached_at(self, service: Service, name: str, port: Port, problems: list[Problem]) -> str:
        """Return `reached_at` with its placeholders filled; what is wrong with it is added to the problems."""
        path = f"{self.catalogue.paths[service.name]}.{path_to('ports', name)}.reached_at"

        def complain(complaint: Complaint) -> None:
            problems.append(Problem(path, *complaint))

        text = Scope(self._settings).fill(port.reached_at or "", complain)
        if port.reached_at and not problems and not read_address(text):
            problems.append(Problem(path, f"{text!r} is not an address with a port", "write it as name:5432"))
        return text

    def problems(self) -> Iterator[Problem]:
        """Yield what a cluster cannot have, and addresses of others that cannot be used."""
        for service in self.catalogue.live():
            if service.name in self.present:
                yield from self._unusable(service)
                continue
            for name, port in service.ports.items():
                found: list[Problem] = []
                self._reached_at(service, name, port, found)
                yield from found
            yield from self._uncertified(service)
        yield from self._collisions()

    def _unusable(self, service: Service) -> Iterator[Problem]:
        path = self.catalogue.paths[service.name]
        complaint = unusable_name(service.name)
        if complaint:
            yield Problem(path, *complaint)
        if service.provided_by is None and service.image is None and self.operator(service) is None:
            yield Problem(f"{path}.image", "it is missing", "name an image: a cluster runs nothing else")
        provider = self.catalogue.services.get(service.provided_by or "")
        if provider and self.catalogue.target in provider.managed:
            remedy = f"say in `managed` what stands in for {service.name}"
            yield Problem(f"{path}.provided_by", f"{provider.name} does not run on this target", remedy)
        mounted: dict[str, str] = {}
        for name, volume in service.volumes.items():
            place = f"{path}.{path_to('volumes', name)}"
            twin = mounted.setdefault(volume.path, name)
            if twin != name:
                yield Problem(f"{place}.path", f"{twin} is mounted at {volume.path} too", "give it another path")
            if volume.path in {FILES, SECRETS, CA_FOLDER, DATABASE_CA_FOLDER}:
                yield Problem(f"{place}.path", f"{volume.path} is taken by the platform", "give it another path")
            if name.startswith("lakehouse-"):
                yield Problem(place, "names that begin with lakehouse- are the platform's own", "choose another name")

    def _uncertified(self, service: Service) -> Iterator[Problem]:
        """Yield that nobody could tell a database of the cloud from one that pretends to be it."""
        if self.certified(service.name) and not self.cluster.database_ca_bundle:
            message = f"nothing says who signs the certificate of {service.name}"
            yield Problem(variable("database_ca_bundle"), message, DATABASE_CA_REMEDY)

    def _collisions(self) -> Iterator[Problem]:
        """Yield pairs of ports that the process of one pod cannot both have."""
        ports = [
            (self.owner(name), port.port, port.protocol, name, label)
            for name, service in self.present.items()
            for label, port in sorted(service.ports.items())
        ]
        for one, other in combinations(ports, 2):
            if one[:3] == other[:3]:
                message = f"{one[3]} ({one[4]}) and {other[3]} ({other[4]}) both listen on port {one[1]} of one pod"
                path = f"{self.catalogue.path_to_change([other[3], one[3]])}.ports"
                yield Problem(path, message, "give one of them another port")

    @cached_property
    def _settings(self) -> dict[str, str]:
        names = {"environment": self.catalogue.environment, "target": self.catalogue.target}
        return names | {f"setting.{name}": value for name, value in self.catalogue.settings.items()}

    @cached_property
    def _shared_names(self) -> dict[str, str]:
        names = dict(self._settings)
        for name, ports in self.addresses.items():
            for port, address in ports.items():
                names |= {
                    f"service.{name}.endpoint.{port}": str(address),
                    f"service.{name}.port.{port}": str(address.port),
                }
                names[f"service.{name}.host"] = address.host
        return names | {f"service.{name}.host": self.host(service) for name, service in self.present.items()}

    @cached_property
    def _refused(self) -> dict[str, Complaint]:
        """What exists on other targets only, with what to say of it."""
        refused: dict[str, Complaint] = {}
        for service in self.catalogue.live():
            stand_in = service.managed.get(self.catalogue.target)
            for port in service.ports if stand_in else ():
                remedy = f"say where in catalogue_services.{service.name}.ports.{port}.reached_at"
                complaint = (f"{service.name} is provided by {stand_in} here, which is found nowhere", remedy)
                keys = (f"endpoint.{port}", f"port.{port}", "host")
                refused |= {f"service.{service.name}.{key}": complaint for key in keys}
            for volume in service.volumes:
                complaint = (
                    f"the folder {volume} of {service.name} is in another pod",
                    "ask the service for it instead",
                )
                refused[f"service.{service.name}.volume.{volume}"] = complaint
        return refused

    def scope(self, service: Service, secrets: Collection[str]) -> Scope:
        """Return what the words of a service may refer to; `secrets` are those that it may read."""
        names = {**self._shared_names, "address": EVERYWHERE, "instance": INSTANCE}
        names["stop.timeout_s"] = str(service.stop.timeout_s)
        for port, address in self.addresses[service.name].items():
            names |= {f"port.{port}": str(address.port), f"endpoint.{port}": str(address)}
        names |= {f"address.{name}": EVERYWHERE for name in service.ports}
        names |= {f"volume.{name}": volume.path for name, volume in service.volumes.items()}
        names |= {f"file.{name}": f"{FILES}/{name}" for name in service.files}
        names |= {f"folder.{name}": f"{FILES}/{name}" for name in folders(service.files)}
        names |= {f"secret.{name}": f"{SECRETS}/{name}" for name in secrets}
        return Scope(names, secrets, self._refused)

    def reached(self, service: Service, named: Iterable[str]) -> Mapping[str, set[str]]:
        """Return which ports of which other services a service calls.

        `named` is what its words say of services. Of a dependency of which no port is named, it calls all that are
        there for others.
        """
        found: dict[str, set[str]] = {}
        for text in named:
            name, _dot, rest = text.partition(".")
            word, _dot, port = rest.partition(".")
            if name in self.addresses and word in ("endpoint", "port") and port in self.addresses[name]:
                found.setdefault(name, set()).add(port)
            elif name in self.addresses and word == "host":
                found.setdefault(name, set())
        for name in {*providers(service), *service.calls, *found}:
            if name in self.addresses and not found.get(name):
                ports = self.catalogue.services[name].ports
                found[name] = {port for port in self.addresses[name] if not ports[port].internal}
        return {name: ports for name, ports in found.items() if ports and self._are_apart(service, name)}

    def certified(self, name: str) -> bool:
        """Say whether a service is a database that has a certificate: somebody else's, or an operator's."""
        service, target = self.catalogue.services[name], self.catalogue.target
        return DATABASE_PORT in service.ports and (target in service.managed or target in service.operated_by)

    def _are_apart(self, service: Service, name: str) -> bool:
        """Say whether a service calls another over the network: two of one pod do not, its replicas may."""
        return self.owner(name) != self.owner(service.name) or name in service.calls


def unusable_name(name: str) -> Complaint | None:
    """Complain about a name that objects of a cluster cannot have, or that the platform gives to its own."""
    if len(name) > NAME_LENGTH:
        return "the name is too long for a cluster", f"use at most {NAME_LENGTH} characters: pods add to the name"
    if not name[:1].isalpha():
        return "a cluster asks for a name that begins with a letter", "put a letter first"
    if name.startswith("lakehouse-"):
        return "names that begin with lakehouse- are the platform's own", "choose another name"
    return None


def read_address(text: str) -> Address | None:
    """Return the address and port that a text names, None when it does not."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or port_number(int(port)):
        return None
    return None if any(character in host for character in "/@ ") else Address(host, int(port))
