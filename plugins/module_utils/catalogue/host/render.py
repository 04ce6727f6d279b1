# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Renders the catalogue as supervised processes of one machine: a pure function of the model.

A host runs one process of a service, whatever its `replicas`: a second one would share the same disk and processors,
and could not have the same port. Nothing but names and markers of secrets goes in or comes out.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...shared.problem import Problem
from ..check import credentials_of
from ..needs import needed_secrets, scraped_secrets
from ..order import start_order
from ..resolve import Resolved, Resolver, Texts
from ..service import Catalogue, Health, Service, plain
from .layout import Layout, Place, folders
from .supervisor import Program, daemon_conf, program_conf

FILE_MODE, FOLDER_MODE = "0600", "0700"
FOLDERS = ("cache", "data", "etc", "etc/supervisor", "etc/supervisor/programs", "log", "run", "secrets")

Entry = dict[str, Any]


def render_host(catalogue: Catalogue, place: Place, texts: Texts) -> tuple[Entry, list[Problem]]:
    """Return what a machine needs to run the catalogue, as plain JSON types, and everything that is wrong with it."""
    layout = Layout(catalogue, place)
    problems = list(layout.port_problems())
    parts = list(_parts(layout, texts, problems))
    programs = [program for part in parts for program in part.programs()]
    supervisor = daemon_conf(layout.at("run"), layout.at("log"))
    rendered = {
        "services": {name: plain(service) for name, service in sorted(catalogue.services.items())},
        "programs": sorted(programs, key=lambda program: (program["start_order"], program["name"])),
        "jobs": [job for part in parts for job in part.jobs()],
        "initialise": [step for part in parts for step in part.initialise()],
        "files": [
            *(file for part in parts for file in [*part.files(), *part.program_files()]),
            _file(layout, "etc/supervisor/supervisord.conf", supervisor, None),
        ],
        "secret_files": [file for part in parts for file in part.secret_files()],
        "directories": [
            *(_directory(layout, folder, None) for folder in FOLDERS),
            *(folder for part in parts for folder in part.directories()),
        ],
        "ports": [plain(listener) for listener in layout.listeners()],
        "sockets": sorted({os.path.relpath(path, place.home) for part in parts for path in part.resolved.sockets}),
        "health": [check for part in parts for check in part.health()],
        "incomplete": [document for part in parts for document in part.incomplete()],
        "metrics": [entry for part in parts for entry in part.metrics()],
        "secrets": needed_secrets(catalogue, {part.service.name: part.secrets() for part in parts}),
        "omitted": list(_omitted(layout)),
        "notices": list(_notices(layout)),
    }
    return rendered, problems


def _parts(layout: Layout, texts: Texts, problems: list[Problem]) -> Iterator[_Part]:
    catalogue, order = layout.catalogue, start_order(layout.catalogue.live())
    variables = {
        "services": {service.name: plain(service) for service in layout.present()},
        "settings": dict(catalogue.settings),
        "environment": catalogue.environment,
        "target": catalogue.target,
    }
    resolver = Resolver(texts, variables, catalogue.broken, problems)
    scraped = scraped_secrets(layout.present())
    for service in layout.described():
        scope = layout.scope(service, {*service.secrets, *(scraped if service.scrapes else ())})
        resolved = resolver.resolve(service, catalogue.paths[service.name], scope, plain(service))
        yield _Part(layout, service, resolved, order[service.name])


def _file(layout: Layout, path: str, content: str, service: str | None) -> Entry:
    return {"path": layout.at(path), "content": content, "mode": FILE_MODE, "service": service}


def _directory(layout: Layout, path: str, service: str | None) -> Entry:
    return {"path": layout.at(path), "mode": FOLDER_MODE, "service": service}


@dataclass(frozen=True)
class _Part:
    """What one service adds to each list of the result; one whose software cannot be had adds its files alone."""

    layout: Layout
    service: Service
    resolved: Resolved
    start_order: int

    @property
    def _runs(self) -> bool:
        return self.layout.is_available(self.service) and self.service.provided_by is None

    @property
    def _environment_file(self) -> str | None:
        return self.layout.at("etc", self.service.name, "environment") if self.resolved.environment else None

    def _launched(self, command: Sequence[str], log_file: str | None = None) -> list[str]:
        """Return a command line with whole paths; a private file gives it the service's environment.

        With `log_file` it writes there itself, whether or not anything reads what it prints.
        """
        if not command:
            return []
        first = command[0] if "/" in command[0] else self.layout.program(command[0])
        whole = [first, *command[1:]]
        given = {"--log-file": log_file, "--environment-file": self._environment_file}
        options = [word for option, value in given.items() if value for word in (option, value)]
        return [self.layout.program("lakehouse-launch"), *options, "--", *whole] if options else whole

    def programs(self) -> list[Entry]:
        if not self._runs or self.service.kind != "service":
            return []
        name, stop = self.service.name, self.service.stop
        log_file = self.layout.at("log", f"{name}.log")
        paths = [file["path"] for file in [*self.files(), *self._secret_files(self.resolved.secret_files)]]
        return [
            {
                "name": name,
                "command": self._launched(self.resolved.command, log_file),
                "directory": self.resolved.directory or self.layout.at("data", name),
                "environment_file": self._environment_file,
                "autostart": True,
                "stop_signal": stop.signal,
                "stop_timeout_s": stop.timeout_s,
                "start_order": self.start_order,
                "log_file": log_file,
                "paths": sorted(paths),
            }
        ]

    def program_files(self) -> list[Entry]:
        name, group = self.service.name, self.service.stop.group
        path = f"etc/supervisor/programs/{name}.conf"
        return [_file(self.layout, path, program_conf(_described(program, group)), name) for program in self.programs()]

    def jobs(self) -> list[Entry]:
        if not self._runs or self.service.kind != "job":
            return []
        return [
            {
                "name": self.service.name,
                "command": self._launched(self.resolved.command),
                "environment_file": self._environment_file,
                "start_order": self.start_order,
            }
        ]

    def initialise(self) -> list[Entry]:
        step = self.resolved.initialise
        if not self._runs or step is None:
            return []
        return [{"service": self.service.name, "command": self._launched(step.command), "creates": step.creates}]

    def files(self) -> list[Entry]:
        name, resolved = self.service.name, self.resolved
        files = [_file(self.layout, f"etc/{name}/{file}", content, name) for file, content in resolved.files.items()]
        if resolved.environment:
            lines = "".join(f"{variable}={value}\n" for variable, value in resolved.environment.items())
            files.append(_file(self.layout, f"etc/{name}/environment", lines, name))
        return files

    def secrets(self) -> set[str]:
        """Return the secrets that the service reads or is looked at with."""
        credentials = {credentials.secret for _word, credentials in credentials_of(self.service)}
        return {*self.resolved.secret_files, *self.resolved.secret_values, *credentials}

    def secret_files(self) -> list[Entry]:
        health = self.service.health
        asked = {health.authentication.secret} if health and health.authentication else set()
        return self._secret_files(self.resolved.secret_files | asked)

    def _secret_files(self, names: Collection[str]) -> list[Entry]:
        service = self.service
        paths = {name: self.layout.secret(service, name) for name in sorted(names)}
        return [{"path": path, "secret": name, "service": service.name} for name, path in paths.items()]

    def directories(self) -> list[Entry]:
        service, layout = self.service, self.layout
        volumes = [layout.volume(service, name) for name in service.volumes]
        written = [file["path"] for file in [*self.files(), *self.secret_files()]]
        below_home = [path.removeprefix(layout.at("")) for path in written]
        inside = [path for path in folders([*below_home, *(f"{volume}/" for volume in volumes)]) if path not in FOLDERS]
        return [_directory(layout, path, service.name) for path in sorted({f"data/{service.name}", *inside})]

    def health(self) -> list[Entry]:
        health = self.service.health
        if health is None or not self.layout.is_available(self.service):
            return []
        words = ("type", "interval_s", "timeout_s", "retries", "start_period_s")
        check = {"service": self.service.name, **{word: getattr(health, word) for word in words}}
        return [check | self._asked(health)]

    def _asked(self, health: Health) -> Entry:
        if health.type == "command":
            return {"command": self._launched(self.resolved.health_command)} if health.command else {}
        if health.port is None or health.port not in self.service.ports:
            return {}
        address, port = self.layout.endpoint(self.service, health.port)
        if health.type == "tcp":
            return {"address": address, "port": port}
        asked = {"url": f"http://{address}:{port}{health.path}", "expected_status": list(health.expected_status)}
        if health.authentication is None:
            return asked
        user, secret = health.authentication.username, health.authentication.secret
        return {**asked, "username": user, "secret_file": self.layout.secret(self.service, secret)}

    def incomplete(self) -> list[Entry]:
        path = self.resolved.incomplete
        return [{"service": self.service.name, "path": path}] if self._runs and path else []

    def metrics(self) -> list[Entry]:
        metrics = self.service.metrics
        if metrics is None or metrics.port not in self.service.ports or not self.layout.is_available(self.service):
            return []
        address, port = self.layout.endpoint(self.service, metrics.port)
        credentials = metrics.authentication
        return [
            {
                "service": self.service.name,
                "url": f"http://{address}:{port}{metrics.path}",
                "username": credentials.username if credentials else None,
                "secret": credentials.secret if credentials else None,
            }
        ]


def _described(program: Mapping[str, Any], stop_group: bool) -> Program:
    return Program(
        program["name"],
        program["command"],
        program["directory"],
        program["start_order"],
        program["stop_signal"],
        program["stop_timeout_s"],
        stop_group,
    )


def _omitted(layout: Layout) -> Iterator[Entry]:
    """Yield what is described but not on the machine, and why."""
    target, unavailable = layout.catalogue.target, layout.place.unavailable
    for name, service in sorted(layout.catalogue.services.items()):
        if not service.enabled:
            yield {"service": name, "reason": "switched off"}
        elif target in service.managed:
            yield {"service": name, "reason": f"provided by {service.managed[target]}"}
        elif not layout.is_available(service):
            yield {"service": name, "reason": unavailable.get(name) or f"{service.provided_by} is left out"}


def _notices(layout: Layout) -> Iterator[Entry]:
    for service in layout.present():
        if service.replicas > 1:
            message = f"one process runs instead of {service.replicas} replicas: a machine has one port and disk for it"
            yield {"service": service.name, "message": message}
