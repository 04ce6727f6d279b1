# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Renders the catalogue as supervised processes of one machine: a pure function of the model.

A host runs one process of a service, whatever its `replicas`: a second one would share the same disk and processors,
and could not have the same port. Nothing but names and markers of secrets goes in or comes out.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, combinations
from typing import Any, Protocol

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.catalogue.check import credentials_of, providers
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.catalogue.contents import ContentError
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.catalogue.placeholders import (
    Scope,
    references,
    secret_values,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.catalogue.service import (
    Catalogue,
    File,
    Service,
    plain,
    port_number,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.catalogue.supervisor import (
    Program,
    daemon_conf,
    program_conf,
    unwritable,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.catalogue.words import Complaint, path_to
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.problem import Problem

LOOPBACK, EVERYWHERE = "127.0.0.1", "0.0.0.0"  # noqa: S104 - compared with, never bound to by default
FILE_MODE, FOLDER_MODE = "0600", "0700"
FOLDERS = ("cache", "data", "etc", "etc/supervisor", "etc/supervisor/programs", "log", "run", "secrets")


class Texts(Protocol):
    """Where templates and copied files come from; both raise :class:`ContentError`."""

    def source(self, path: str) -> str: ...

    def template(self, path: str, variables: Mapping[str, Any]) -> str: ...


@dataclass(frozen=True)
class Place:
    """The machine's side: where things lie and listen, and services whose software it cannot have (with the reason)."""

    home: str
    software: str
    bind_address: str = LOOPBACK
    port_offset: int = 0
    unavailable: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, settings: Mapping[str, Any]) -> tuple[Place, list[Problem]]:
        """Return the place that the settings describe, and what is wrong with them."""
        unavailable, offset = settings.get("unavailable") or {}, settings.get("port_offset", 0)
        offset = int(offset) if isinstance(offset, str) and offset.isdecimal() else offset
        whole = isinstance(offset, int) and not isinstance(offset, bool)
        place = cls(
            "".join(str(settings.get("home", ""))),
            "".join(str(settings.get("software", ""))),
            "".join(str(settings.get("bind_address", LOOPBACK))),
            offset if whole else 0,
            {str(name): str(reason) for name, reason in unavailable.items()},
        )
        wrong = (
            []
            if whole
            else [
                Problem("lakehouse_port_offset", f"{offset!r} is not a whole number", "write a number without quotes")
            ]
        )
        return place, [*place._problems(), *wrong]

    def _problems(self) -> Iterator[Problem]:
        for path in (self.home, self.software):
            complaint = unwritable(path) or (
                None if path.startswith("/") else (f"{path!r} is not absolute", "start it with /")
            )
            if complaint:
                yield Problem("lakehouse_home", *complaint)
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


def render_host(
    catalogue: Catalogue, place: Place, texts: Texts
) -> tuple[dict[str, list[Any] | dict[str, Any]], list[Problem]]:
    """Return what a machine needs to run the catalogue, as plain JSON types, and everything that is wrong with it."""
    host = _Host(catalogue, place)
    problems = list(host.port_problems())
    parts = [_Part(host, service, texts, problems) for service in catalogue.live() if not host.is_managed(service)]
    rendered: dict[str, list[Any] | dict[str, Any]] = {
        "services": {name: plain(service) for name, service in sorted(catalogue.services.items())},
        "ports": [plain(listener) for listener in host.listeners],
        "secrets": _secrets(catalogue, {part.service.name: part.secrets() for part in parts}),
        "omitted": host.omitted(),
        "notices": host.notices(),
    }
    for key in ("programs", "jobs", "initialise", "files", "secret_files", "directories", "health", "metrics"):
        rendered[key] = [entry for part in parts for entry in getattr(part, key)()]
    rendered["programs"] = sorted(rendered["programs"], key=lambda program: (program["start_order"], program["name"]))
    rendered["files"] = [
        *rendered["files"],
        host.file("etc/supervisor/supervisord.conf", daemon_conf(host.at("run"), host.at("log"))),
    ]
    rendered["directories"] = [*map(host.directory, FOLDERS), *rendered["directories"]]
    return rendered, problems


class _Host:
    """What is the same for all services of one machine."""

    def __init__(self, catalogue: Catalogue, place: Place) -> None:
        self.catalogue, self.place = catalogue, place
        self.order = start_order(list(catalogue.live()))
        self.present = [
            service for service in catalogue.live() if not self.is_managed(service) and self.is_available(service)
        ]
        self.listeners = [listener for service in self.present for listener in self._listeners(service)]
        self.names = {"environment": catalogue.environment, "target": catalogue.target}
        self.names |= {f"setting.{name}": value for name, value in catalogue.settings.items()}
        for service in catalogue.live():
            self.names |= self._public_names(service)
        self.scraped = {
            credentials.secret
            for service in self.present
            for word, credentials in credentials_of(service)
            if word == "metrics"
        }

    def is_managed(self, service: Service) -> bool:
        return self.catalogue.target in service.managed

    def is_available(self, service: Service) -> bool:
        return not {service.name, service.provided_by} & set(self.place.unavailable)

    def at(self, *parts: str) -> str:
        return "/".join([self.place.home, *parts])

    def file(self, path: str, content: str, service: str | None = None) -> dict[str, Any]:
        return {"path": self.at(path), "content": content, "mode": FILE_MODE, "service": service}

    def directory(self, path: str, service: str | None = None) -> dict[str, Any]:
        return {"path": self.at(path), "mode": FOLDER_MODE, "service": service}

    def volume(self, service: Service, name: str) -> str:
        return f"{'run' if service.volumes[name].ephemeral else 'data'}/{service.name}/{name}"

    def address(self, exposed: bool) -> str:
        return self.place.bind_address if exposed else LOOPBACK

    def number(self, port: int) -> int:
        return port + self.place.port_offset

    def client_address(self, exposed: bool) -> str:
        """Return where a program of the same machine finds a port."""
        address = self.address(exposed)
        return LOOPBACK if address == EVERYWHERE else address

    def _listeners(self, service: Service) -> Iterator[Listener]:
        owner = service.provided_by or service.name
        for name, port in sorted(service.ports.items()):
            yield Listener(service.name, name, self.address(port.expose), self.number(port.port), port.protocol, owner)

    def _public_names(self, service: Service) -> dict[str, str]:
        prefix = f"service.{service.name}"
        exposed = any(port.expose for port in service.ports.values())
        names = {f"{prefix}.host": self.client_address(exposed), f"{prefix}.address": self.address(exposed)}
        for name, port in service.ports.items():
            number = self.number(port.port)
            names |= {
                f"{prefix}.port.{name}": str(number),
                f"{prefix}.endpoint.{name}": f"{self.client_address(port.expose)}:{number}",
            }
        return names | {f"{prefix}.volume.{name}": self.at(self.volume(service, name)) for name in service.volumes}

    def port_problems(self) -> Iterator[Problem]:
        for listener in self.listeners:
            path = f"{self.catalogue.paths[listener.service]}.ports.{listener.name}.port"
            complaint = port_number(listener.port)
            if complaint:
                yield Problem(path, complaint[0], "lower it, or lower lakehouse_port_offset")
        for one, other in combinations(self.listeners, 2):
            if one.collides(other):
                path = f"{self.catalogue.paths[other.service]}.ports.{other.name}.port"
                message = f"{one.service} ({one.name}) and {other.service} ({other.name}) both listen on {other.address}:{other.port}"
                yield Problem(path, message, "give one of them another port")

    def omitted(self) -> list[dict[str, str]]:
        reasons = {service.name: "switched off" for service in self.catalogue.services.values() if not service.enabled}
        for service in self.catalogue.live():
            if self.is_managed(service):
                reasons[service.name] = f"provided by {service.managed[self.catalogue.target]}"
            elif not self.is_available(service):
                reasons[service.name] = self.place.unavailable.get(service.name) or f"{service.provided_by} is left out"
        return [{"service": name, "reason": reason} for name, reason in sorted(reasons.items())]

    def notices(self) -> list[dict[str, str]]:
        text = "one process runs instead of {} replicas: a machine has one port and one disk for it"
        several = (service for service in self.present if service.replicas > 1)
        return [{"service": service.name, "message": text.format(service.replicas)} for service in several]


class _Part:
    """One service on the machine. Every text is filled here, and what is wrong with it goes to `problems`."""

    def __init__(self, host: _Host, service: Service, texts: Texts, problems: list[Problem]) -> None:
        self.host, self.service, self._texts, self._problems = host, service, texts, problems
        self._runs = host.is_available(service) and not service.provided_by
        self._path = host.catalogue.paths[service.name]
        self._raw: list[str] = []
        readable = set(service.secrets) | (host.scraped if service.scrapes else set())
        self._scope = Scope(host.names | self._own_names(readable), readable)
        self._environment = self._lines()
        self._contents = {name: self._content(name, file) for name, file in sorted(service.files.items())}
        self._command = [*self._arguments("command", service.command), *self._filled("arguments", service.arguments)]
        start = service.initialise
        self._first = self._arguments("initialise.command", start.command) if start else []
        self._creates = self._fill("initialise.creates", start.creates) if start else ""
        health = service.health
        self._asks = self._arguments("health.command", health.command) if health and health.command else []

    def _own_names(self, secrets: Collection[str]) -> dict[str, str]:
        host, service, prefix = self.host, self.service, f"service.{self.service.name}"
        names = {f"volume.{name}": host.names[f"{prefix}.volume.{name}"] for name in service.volumes}
        for name, port in service.ports.items():
            names |= {f"port.{name}": host.names[f"{prefix}.port.{name}"], f"address.{name}": host.address(port.expose)}
        names |= {f"file.{name}": host.at("etc", service.name, name) for name in service.files}
        names |= {f"secret.{name}": self._secret_path(name) for name in secrets}
        folders = {name.rpartition("/")[0] for name in service.files if "/" in name}
        folders |= {parent for folder in folders for parent in accumulate(folder.split("/"), "{}/{}".format)}
        names |= {f"folder.{folder}": host.at("etc", service.name, folder) for folder in folders}
        return names | {"address": host.names[f"{prefix}.address"]}

    def _secret_path(self, name: str) -> str:
        return self.host.at("secrets", self.service.name, name)

    def _complain(self, path: str) -> Callable[[Complaint], None]:
        def complain(complaint: Complaint) -> None:
            if not any(f"${{service.{name}." in complaint[0] for name in self.host.catalogue.broken):
                self._problems.append(Problem(path_to(self._path, path), *complaint))

        return complain

    def _fill(self, path: str, text: str, markers: bool = False) -> str:
        self._raw.append(text)
        return self._scope.fill(text, self._complain(path), markers)

    def _filled(self, path: str, arguments: Sequence[str]) -> list[str]:
        return [self._fill(f"{path}[{index}]", argument) for index, argument in enumerate(arguments)]

    def _arguments(self, path: str, arguments: Sequence[str]) -> list[str]:
        """Return a command line with the whole path of a program that the platform brings along."""
        filled = self._filled(path, arguments)
        if filled and "/" not in filled[0]:
            filled[0] = f"{self.host.place.software}/bin/{filled[0]}"
        return filled

    def _lines(self) -> str:
        filled = {
            name: self._fill(f"environment.{name}", text, True)
            for name, text in sorted(self.service.environment.items())
        }
        return "".join(f"{name}={value}\n" for name, value in filled.items())

    def _content(self, name: str, file: File) -> str:
        path = path_to("files", name)
        try:
            if file.source is not None:
                return self._literal(f"{path}.source", self._texts.source(file.source))
            if file.template is not None:
                text = self._texts.template(file.template, self._variables())
                return self._fill(f"{path}.template", text, True)
        except ContentError as error:
            self._complain(path)(error.complaint)
            return ""
        return self._fill(f"{path}.content", file.content or "", True)

    def _literal(self, path: str, text: str) -> str:
        if "${secret_value." in text:
            self._complain(path)(("a copied file holds the marker of a secret", "make it a template"))
        return text

    def _variables(self) -> dict[str, Any]:
        catalogue = self.host.catalogue
        return {
            "service": plain(self.service),
            "services": {service.name: plain(service) for service in self.host.present},
            "settings": dict(catalogue.settings),
            "environment": catalogue.environment,
            "target": catalogue.target,
        }

    def _launched(self, command: Sequence[str]) -> list[str]:
        """Return a command line that is given the service's environment, so that no secret of it shows in a process list."""
        if not self._environment:
            return list(command)
        launcher = f"{self.host.place.software}/bin/lakehouse-launch"
        return [launcher, "--environment-file", self._environment_file(), "--", *command]

    def _environment_file(self) -> str:
        return self.host.at("etc", self.service.name, "environment")

    def secrets(self) -> set[str]:
        """Return the names of all secrets that this service reads, or is looked at with."""
        used = {credentials.secret for _word, credentials in credentials_of(self.service)}
        values = {name for text in self._raw for name in secret_values(text)} & set(self._scope.secrets)
        return used | values | self._named_secrets()

    def _named_secrets(self) -> set[str]:
        return {name for text in self._raw for name in references(text, "secret")} & set(self._scope.secrets)

    def programs(self) -> list[dict[str, Any]]:
        return [self._program()] if self._runs and self.service.kind == "service" else []

    def _program(self) -> dict[str, Any]:
        host, name = self.host, self.service.name
        files = [file["path"] for file in [*self._files(), *self._secret_files(self._named_secrets())]]
        return {
            "name": name,
            "command": self._launched(self._command),
            "directory": host.at("data", name),
            "environment_file": self._environment_file() if self._environment else None,
            "autostart": True,
            "stop_signal": self.service.stop.signal,
            "stop_timeout_s": self.service.stop.timeout_s,
            "start_order": host.order[name],
            "log_file": host.at("log", f"{name}.log"),
            "paths": sorted(files),
        }

    def jobs(self) -> list[dict[str, Any]]:
        if not self._runs or self.service.kind != "job":
            return []
        environment_file = self._environment_file() if self._environment else None
        job = {
            "name": self.service.name,
            "command": self._launched(self._command),
            "environment_file": environment_file,
        }
        return [{**job, "start_order": self.host.order[self.service.name]}]

    def initialise(self) -> list[dict[str, Any]]:
        if not self._runs or not self._first:
            return []
        return [{"service": self.service.name, "command": self._launched(self._first), "creates": self._creates}]

    def files(self) -> list[dict[str, Any]]:
        name = self.service.name
        confs = (
            [self.host.file(f"etc/supervisor/programs/{name}.conf", self._program_conf(), name)]
            if self.programs()
            else []
        )
        return [*self._files(), *confs]

    def _files(self) -> list[dict[str, Any]]:
        name = self.service.name
        files = [self.host.file(f"etc/{name}/{file}", content, name) for file, content in self._contents.items()]
        if self._environment:
            files.append(self.host.file(f"etc/{name}/environment", self._environment, name))
        return files

    def _program_conf(self) -> str:
        program, stop = self._program(), self.service.stop
        return program_conf(
            Program(
                program["name"],
                program["command"],
                program["directory"],
                program["log_file"],
                program["start_order"],
                stop,
            )
        )

    def secret_files(self) -> list[dict[str, Any]]:
        health = self.service.health
        asked = {health.authentication.secret} if health and health.authentication else set()
        return self._secret_files(self._named_secrets() | asked)

    def _secret_files(self, names: Collection[str]) -> list[dict[str, Any]]:
        return [
            {"path": self._secret_path(name), "secret": name, "service": self.service.name} for name in sorted(names)
        ]

    def directories(self) -> list[dict[str, Any]]:
        host, service = self.host, self.service
        folders = {f"data/{service.name}"} | {host.volume(service, name) for name in service.volumes}
        folders |= {f"run/{service.name}" for volume in service.volumes.values() if volume.ephemeral}
        for file in [*self._files(), *self.secret_files()]:
            parts = file["path"].removeprefix(f"{host.place.home}/").split("/")[:-1]
            folders |= {"/".join(parts[:depth]) for depth in range(2, len(parts) + 1)}
        return [host.directory(folder, service.name) for folder in sorted(folders)]

    def health(self) -> list[dict[str, Any]]:
        health = self.service.health
        if health is None or not self.host.is_available(self.service):
            return []
        words = ("type", "interval_s", "timeout_s", "retries", "start_period_s")
        check = {"service": self.service.name, **{word: getattr(health, word) for word in words}}
        if health.type == "command":
            return [{**check, "command": self._launched(self._asks)}]
        if health.type == "tcp":
            address, port = self._endpoint(health.port)
            return [{**check, "address": address, "port": port}]
        check |= {"url": self._url(health.port, health.path), "expected_status": list(health.expected_status)}
        if health.authentication:
            secret_file = self._secret_path(health.authentication.secret)
            check |= {"username": health.authentication.username, "secret_file": secret_file}
        return [check]

    def metrics(self) -> list[dict[str, Any]]:
        metrics = self.service.metrics
        if metrics is None or not self.host.is_available(self.service):
            return []
        credentials = metrics.authentication
        return [
            {
                "service": self.service.name,
                "url": self._url(metrics.port, metrics.path),
                "username": credentials.username if credentials else None,
                "secret": credentials.secret if credentials else None,
            }
        ]

    def _endpoint(self, name: str | None) -> tuple[str, int]:
        port = self.service.ports.get(name or "")
        return (self.host.client_address(port.expose), self.host.number(port.port)) if port else ("", 0)

    def _url(self, port: str | None, path: str) -> str:
        address, number = self._endpoint(port)
        return f"http://{address}:{number}{path}"


def start_order(services: Sequence[Service]) -> dict[str, int]:
    """Return for each service how many steps come before it: 0 for one that waits for nothing. A cycle counts as one step."""
    by_name = {service.name: service for service in services}
    order: dict[str, int] = {}

    def step(name: str, seen: frozenset[str]) -> int:
        if name not in order:
            before = [
                step(other, seen | {name})
                for other in providers(by_name[name])
                if other in by_name and other not in seen
            ]
            order[name] = 1 + max(before, default=-1)
        return order[name]

    for name in sorted(by_name):
        step(name, frozenset({name}))
    return order


def _secrets(catalogue: Catalogue, readers: Mapping[str, Collection[str]]) -> list[dict[str, Any]]:
    """Return the secrets that somebody reads, and those that these are derived from."""
    services = {
        name: sorted(reader for reader, names in readers.items() if name in names) for name in catalogue.secrets
    }
    sources = {catalogue.secrets[name].of for name, found in services.items() if found}
    described = (
        (name, secret) for name, secret in sorted(catalogue.secrets.items()) if services[name] or name in sources
    )
    words = ("name", "kind", "length", "of", "optional")
    return [
        {**{word: getattr(secret, word) for word in words}, "services": services[name]} for name, secret in described
    ]
