# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts everything into a service that its words refer to: values of placeholders, templates, copied files.

The same for every target; only what the names stand for differs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ..shared.problem import Problem
from .contents import ContentError
from .placeholders import Scope, references, secret_values
from .service import File, Initialise, Service
from .words import Complaint, path_to


class Texts(Protocol):
    """Where templates and copied files come from; both raise :class:`ContentError`."""

    def source(self, path: str) -> str:
        """Return the text of a file."""

    def template(self, path: str, variables: Mapping[str, Any]) -> str:
        """Return the text of a template with the variables put in."""


@dataclass(frozen=True)
class Resolved:
    """A service whose words hold no placeholder any more; markers of secret values stay in environment and files."""

    service: Service
    command: tuple[str, ...]
    directory: str | None
    initialise: Initialise | None
    health_command: tuple[str, ...]
    sockets: tuple[str, ...]
    incomplete: str | None
    environment: Mapping[str, str]
    files: Mapping[str, str]
    secret_files: frozenset[str]
    secret_values: frozenset[str]
    neighbours: frozenset[str]
    """What its words say of services, as the placeholders do: ``database.endpoint.postgresql``."""


@dataclass(frozen=True)
class Resolver:
    """Resolves the services of one target.

    `variables` are what templates see besides the service. `broken` are services that are reported already: what refers
    to them is left as it is.
    """

    texts: Texts
    variables: Mapping[str, Any]
    broken: Collection[str]
    problems: list[Problem]

    def resolve(self, service: Service, path: str, scope: Scope, view: Mapping[str, Any]) -> Resolved:
        """Return the service with everything put in; what cannot be is added to the problems, below `path`."""
        filling = _Filling(self, path, scope, [])
        start, health = service.initialise, service.health
        environment = {
            name: filling.text(f"environment.{name}", text, markers=True)
            for name, text in sorted(service.environment.items())
        }
        variables = {**self.variables, "service": view}
        files = {name: filling.file(name, file, variables) for name, file in sorted(service.files.items())}
        command = (*filling.each("command", service.command), *filling.each("arguments", service.arguments))
        return Resolved(
            service,
            command=command,
            directory=None if service.directory is None else filling.text("directory", service.directory),
            initialise=start and filling.initialise(start),
            health_command=filling.each("health.command", health.command) if health else (),
            sockets=filling.each("sockets", service.sockets),
            incomplete=None if service.incomplete is None else filling.text("incomplete", service.incomplete),
            environment=environment,
            files=files,
            secret_files=filling.used(lambda text: references(text, "secret")),
            secret_values=filling.used(secret_values),
            neighbours=frozenset(name for text in filling.seen for name in references(text, "service")),
        )


@dataclass(frozen=True)
class _Filling:
    """Fills the texts of one service and remembers them, since they tell which secrets are used."""

    resolver: Resolver
    path: str
    scope: Scope
    seen: list[str]

    def text(self, path: str, text: str, markers: bool = False) -> str:
        self.seen.append(text)
        return self.scope.fill(text, self._complain(path), markers)

    def each(self, path: str, texts: Sequence[str]) -> tuple[str, ...]:
        return tuple(self.text(f"{path}[{index}]", text) for index, text in enumerate(texts))

    def initialise(self, start: Initialise) -> Initialise:
        return Initialise(
            self.each("initialise.command", start.command), self.text("initialise.creates", start.creates)
        )

    def file(self, name: str, file: File, variables: Mapping[str, Any]) -> str:
        path, texts = path_to("files", name), self.resolver.texts
        try:
            if file.source is not None:
                return self._literal(f"{path}.source", texts.source(file.source))
            if file.template is not None:
                return self.text(f"{path}.template", texts.template(file.template, variables), markers=True)
        except ContentError as error:
            self._complain(path)(error.complaint)
        return self.text(f"{path}.content", file.content or "", markers=True)

    def used(self, find: Callable[[str], Collection[str]]) -> frozenset[str]:
        return frozenset(name for text in self.seen for name in find(text) if name in self.scope.secrets)

    def _literal(self, path: str, text: str) -> str:
        if secret_values(text):
            self._complain(path)(("a copied file holds the marker of a secret", "make it a template"))
        return text

    def _complain(self, path: str) -> Callable[[Complaint], None]:
        def complain(complaint: Complaint) -> None:
            if not any(f"${{service.{name}." in complaint[0] for name in self.resolver.broken):
                self.resolver.problems.append(Problem(f"{self.path}.{path}", *complaint))

        return complain
