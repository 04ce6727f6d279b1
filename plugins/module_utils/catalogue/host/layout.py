# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where things lie and listen on a host."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate, combinations
from typing import Any

from ...shared.problem import Problem
from ..placeholders import Scope
from ..service import Catalogue, Service, port_number
from .supervisor import unwritable

LOOPBACK, EVERYWHERE = "127.0.0.1", "0.0.0.0"  # noqa: S104 - compared with, never bound to by default


@dataclass(frozen=True)
class Place:
    """The machine: its folders and address, and the services whose software it cannot have (with the reason)."""

    home: str
    software: str
    bind_address: str = LOOPBACK
    port_offset: int = 0
    unavailable: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, settings: Mapping[str, Any]) -> tuple[Place, list[Problem]]:
        """Return the place that the settings describe, and what is wrong with them."""
        offset = settings.get("port_offset", 0)
        offset = int(offset) if isinstance(offset, str) and offset.isdecimal() else offset
        whole = isinstance(offset, int) and not isinstance(offset, bool)
        place = cls(
            str(settings.get("home", "")),
            str(settings.get("software", "")),
            str(settings.get("bind_address", LOOPBACK)),
            offset if whole else 0,
            {str(name): str(reason) for name, reason in (settings.get("unavailable") or {}).items()},
        )
        problems = list(place._problems())
        if not whole:
            problems.append(Problem("lakehouse_port_offset", f"{offset!r} is not a whole number", "write a number"))
        return place, problems

    def _problems(self) -> Iterator[Problem]:
        for path in (self.home, self.software):
            complaint = unwritable(path)
            if complaint:
                yield Problem("lakehouse_home", *complaint)
            elif not path.startswith("/"):
                yield Problem("lakehouse_home", f"{path!r} is not an absolute path", "start it with /")
        try:
            ipaddress.IPv4Address(self.bind_address)
        except ValueError:
            remedy = f"use an address of the machine, or {EVERYWHERE} for all of them"
            yield Problem("lakehouse_bind_address", f"{self.bind_address!r} is not an IPv4 address", remedy)


@dataclass(frozen=True)
class Listener:
    """A port as it is on the machine; `owner` is the service whose process listens."""

    service: str
    name: str
    address: str
    port: int
    protocol: str
    owner: str

    def collides(self, other: Listener) -> bool:
        """Say whether both cannot listen at the same time."""
        same_place = self.address == other.address or EVERYWHERE in (self.address, other.address)
        return same_place and (self.port, self.protocol) == (other.port, other.protocol)


@dataclass(frozen=True)
class Layout:
    """The catalogue on one machine: paths, addresses, and what the names of placeholders stand for."""

    catalogue: Catalogue
    place: Place

    def described(self) -> list[Service]:
        """Return the services that lie on the machine, those whose software it cannot have included."""
        return [service for service in self.catalogue.live() if self.catalogue.target not in service.managed]

    def present(self) -> list[Service]:
        """Return the services that the machine runs or serves."""
        return [service for service in self.described() if self.is_available(service)]

    def is_available(self, service: Service) -> bool:
        """Say whether the machine can have the software of a service."""
        return not {service.name, service.provided_by} & set(self.place.unavailable)

    def at(self, *parts: str) -> str:
        """Return a path below the home."""
        return "/".join([self.place.home, *parts])

    def volume(self, service: Service, name: str) -> str:
        """Return the folder of a volume below the home: what may be lost lies where a cleaned `run` takes it away."""
        return f"{'run' if service.volumes[name].ephemeral else 'data'}/{service.name}/{name}"

    def secret(self, service: Service, name: str) -> str:
        """Return the path of the file that holds a secret for a service."""
        return self.at("secrets", service.name, name)

    def program(self, name: str) -> str:
        """Return the path of one of the platform's programs."""
        return f"{self.place.software}/bin/{name}"

    def listening(self, exposed: bool) -> str:
        """Return the address that a port listens on."""
        return self.place.bind_address if exposed else LOOPBACK

    def reached(self, exposed: bool) -> str:
        """Return the address at which a program of the same machine finds a port."""
        address = self.listening(exposed)
        return LOOPBACK if address == EVERYWHERE else address

    def endpoint(self, service: Service, port: str) -> tuple[str, int]:
        """Return address and number at which a program of the same machine finds a port."""
        found = service.ports[port]
        return self.reached(found.expose), found.port + self.place.port_offset

    def listeners(self) -> list[Listener]:
        """Return every port of the machine, in the order of services and names."""
        return [
            Listener(
                service.name,
                name,
                self.listening(port.expose),
                port.port + self.place.port_offset,
                port.protocol,
                service.provided_by or service.name,
            )
            for service in self.present()
            for name, port in sorted(service.ports.items())
        ]

    def port_problems(self) -> Iterator[Problem]:
        """Yield ports beyond the last, and pairs that cannot both listen."""
        listeners = self.listeners()
        for listener in listeners:
            complaint = port_number(listener.port)
            if complaint:
                yield Problem(self._path(listener), complaint[0], "lower it, or lower lakehouse_port_offset")
        for one, other in combinations(listeners, 2):
            if one.collides(other):
                both = f"{one.service} ({one.name}) and {other.service} ({other.name})"
                message = f"{both} both listen on {other.address}:{other.port}"
                given = self.catalogue.path_to_change([other.service, one.service])
                blamed = one if given == self.catalogue.paths[one.service] else other
                yield Problem(self._path(blamed), message, "give one of them another port")

    def _path(self, listener: Listener) -> str:
        return f"{self.catalogue.paths[listener.service]}.ports.{listener.name}.port"

    @cached_property
    def _shared_names(self) -> dict[str, str]:
        names = {"environment": self.catalogue.environment, "target": self.catalogue.target}
        names |= {f"setting.{name}": value for name, value in self.catalogue.settings.items()}
        for service in self.catalogue.live():
            names |= {f"service.{service.name}.{key}": value for key, value in self._public_names(service).items()}
        return names

    def _public_names(self, service: Service) -> dict[str, str]:
        """Return what other services may say of this one."""
        names = {"host": self.reached(any(port.expose for port in service.ports.values()))}
        for name in service.ports:
            address, number = self.endpoint(service, name)
            names |= {f"port.{name}": str(number), f"endpoint.{name}": f"{address}:{number}"}
        return names | {f"volume.{name}": self.at(self.volume(service, name)) for name in service.volumes}

    def scope(self, service: Service, secrets: Collection[str]) -> Scope:
        """Return what the words of a service may refer to; `secrets` are those that it may read."""
        exposed = any(port.expose for port in service.ports.values())
        names = {**self._shared_names, "address": self.listening(exposed), "instance": service.name}
        names |= {key: value for key, value in self._public_names(service).items() if key != "host"}
        names["stop.timeout_s"] = str(service.stop.timeout_s)
        names |= {f"address.{name}": self.listening(port.expose) for name, port in service.ports.items()}
        names |= {f"file.{name}": self.at("etc", service.name, name) for name in service.files}
        names |= {f"folder.{name}": self.at("etc", service.name, name) for name in folders(service.files)}
        names |= {f"secret.{name}": self.secret(service, name) for name in secrets}
        return Scope(names, secrets)


def folders(paths: Collection[str]) -> list[str]:
    """Return the folders that lie above relative paths, outermost first."""
    parents = {path.rpartition("/")[0] for path in paths if "/" in path}
    return sorted({above for parent in parents for above in accumulate(parent.split("/"), "{}/{}".format)})
