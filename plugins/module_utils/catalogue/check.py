# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be wrong between the words of a service, and between services, whatever the target is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from ..secrets.rules import SOURCES, description_problems
from ..shared.nearest import replacement
from ..shared.problem import Problem
from ..shared.targets import CLUSTERS
from .order import cycles
from .service import Amounts, Catalogue, Credentials, Service, byte_count
from .words import path_to

Found = Iterator[tuple[str, str, str]]
"""The path below the service, what is wrong, the remedy."""


def relations(catalogue: Catalogue) -> Iterator[Problem]:
    """Yield what is wrong between the services that are switched on, and with each of them."""
    for service in catalogue.live():
        for check in CHECKS:
            for path, message, remedy in check(service, catalogue):
                yield Problem(f"{catalogue.paths[service.name]}.{path}", message, remedy)
    yield from _described_secrets(catalogue)
    yield from _cycles(catalogue)


def _neighbours(service: Service, catalogue: Catalogue) -> Found:
    named = [(f"depends_on[{index}]", name) for index, name in enumerate(service.depends_on)]
    named += [(f"calls[{index}]", name) for index, name in enumerate(service.calls)]
    for path, name in [*named, ("provided_by", service.provided_by)]:
        if name is None or name in catalogue.broken:
            continue
        if name not in catalogue.services:
            yield path, f"there is no service {name!r}", replacement(name, set(catalogue.services) - {service.name})
        elif not catalogue.services[name].enabled:
            yield path, f"{name} is switched off", f"switch {service.name} off too, or take {name} out of here"
        elif path == "provided_by" and not catalogue.services[name].command:
            yield path, f"{name} has no process of its own", "name the service whose command serves it"


def _process(service: Service, catalogue: Catalogue) -> Found:
    if service.command and service.provided_by:
        yield "command", f"{service.provided_by} provides it already", "leave out command or provided_by"
    if not service.command and not service.provided_by and catalogue.target not in service.managed:
        yield "command", "nothing says how it is started", "add command, or provided_by with the service that serves it"
    if service.provided_by and service.initialise:
        yield "initialise", "only a service with a command can be initialised", f"move it to {service.provided_by}"
    if service.initialise and not service.initialise.command:
        yield "initialise.command", "it is empty", "write the command line as a list"
    # A cluster can read the figures of a job while it runs; on one machine nothing would look for its port.
    if service.kind == "job" and (service.replicas > 1 or (service.ports and catalogue.target not in CLUSTERS)):
        yield "kind", "a job has neither ports nor replicas", "make it a service, or leave them out"
    if service.kind != "job" and service.on_demand:
        yield "on_demand", "only a job is asked for", "make it a job, or leave it out"
    if service.kind != "job" and service.incomplete:
        yield "incomplete", "only the work of a job ends", "make it a job, or leave it out"


def _cluster_keys(service: Service, _catalogue: Catalogue) -> Found:
    if service.scale and service.kind == "job":
        yield "scale", "a job has no replicas", "make it a service, or leave it out"
    if service.scale and service.scale.min > service.scale.max:
        yield "scale.max", f"{service.scale.max} is below the minimum {service.scale.min}", "exchange the numbers"
    if service.login and "http" not in service.ports:
        yield "login", "the service has no port http, which an ingress exposes", "describe this port, or leave it out"


def _secrets(service: Service, catalogue: Catalogue) -> Found:
    for index, name in enumerate(service.secrets):
        if name not in catalogue.secrets:
            yield f"secrets[{index}]", f"there is no secret {name!r}", replacement(name, catalogue.secrets)
    for path, credentials in credentials_of(service):
        if credentials.secret not in catalogue.secrets:
            remedy = replacement(credentials.secret, catalogue.secrets)
            yield f"{path}.authentication.secret", f"there is no secret {credentials.secret!r}", remedy


def credentials_of(service: Service) -> Iterator[tuple[str, Credentials]]:
    """Yield the credentials that others use to look at `service`, with the word they are found in."""
    if service.health and service.health.authentication:
        yield "health", service.health.authentication
    if service.metrics and service.metrics.authentication:
        yield "metrics", service.metrics.authentication


def _ports(service: Service, _catalogue: Catalogue) -> Found:
    for name, port in service.ports.items():
        if port.web_page and not port.authenticated:
            yield (
                f"ports.{name}.web_page",
                "a web page is open to everybody",
                "set `authenticated: true` and protect it",
            )
        if port.expose and port.private:
            remedy = "leave it on loopback, and put a proxy that asks for a password before it"
            yield f"ports.{name}.expose", f"it may not be exposed: {port.private}", remedy
        elif port.expose and not port.authenticated:
            yield (
                f"ports.{name}.expose",
                "a port without authentication would be open to other machines",
                ("protect it and set `authenticated: true`, or leave it on loopback"),
            )
    references = [("health", service.health.port)] if service.health else []
    references += [("metrics", service.metrics.port)] if service.metrics else []
    for word, wanted in references:
        if wanted is not None and wanted not in service.ports:
            yield f"{word}.port", f"there is no port {wanted!r}", replacement(wanted, service.ports)


def _health(service: Service, _catalogue: Catalogue) -> Found:
    health = service.health
    if health and health.type == "command" and not health.command:
        yield "health.command", "a check of type command has no command", "add it as a list"
    if health and health.type != "command" and health.port is None:
        yield "health.port", f"a check of type {health.type} has no port", replacement("", service.ports)


def _files(service: Service, _catalogue: Catalogue) -> Found:
    for name, file in service.files.items():
        if sum(value is not None for value in (file.template, file.content, file.source)) != 1:
            yield (
                path_to("files", name),
                "it is not clear what it holds",
                "give exactly one of template, content and source",
            )


def _amounts(service: Service, _catalogue: Catalogue) -> Found:
    requests, limits = service.resources.requests, service.resources.limits
    for word, measure in MEASURES.items():
        asked, allowed = measure(requests), measure(limits)
        if asked is not None and allowed is not None and asked > allowed:
            message = f"{getattr(requests, word)} is more than the limit {getattr(limits, word)}"
            yield f"resources.requests.{word}", message, f"ask for less, or raise resources.limits.{word}"


def cpu_share(amounts: Amounts) -> float | None:
    """Return processors as a number, None where they are left open."""
    if amounts.cpu is None:
        return None
    return float(amounts.cpu.removesuffix("m")) / (1000 if amounts.cpu.endswith("m") else 1)


def memory_bytes(amounts: Amounts) -> float | None:
    """Return memory in bytes, None where it is left open."""
    return None if amounts.memory is None else byte_count(amounts.memory)


def _environment(service: Service, _catalogue: Catalogue) -> Found:
    """Find variables that are given twice: http_proxy beside HTTP_PROXY is common, with another value it is a slip."""
    seen: dict[str, str] = {}
    for name, value in service.environment.items():
        twin = seen.setdefault(name.upper(), name)
        if service.environment[twin] != value:
            yield (
                f"environment.{name}",
                f"it is given twice, {twin} says something else",
                f"keep one of {twin} and {name}",
            )


CHECKS: tuple[Callable[[Service, Catalogue], Found], ...] = (
    _neighbours,
    _process,
    _cluster_keys,
    _secrets,
    _ports,
    _health,
    _files,
    _amounts,
    _environment,
)
MEASURES: Mapping[str, Callable[[Amounts], float | None]] = {"cpu": cpu_share, "memory": memory_bytes}


def _described_secrets(catalogue: Catalogue) -> Iterator[Problem]:
    for name, secret in catalogue.secrets.items():
        # The name was judged when it was read.
        wrong = [problem for problem in description_problems(secret) if problem.option != "name"]
        yield from (Problem(f"catalogue_secrets.{name}.{option}", *told) for option, *told in wrong)
        for option, kinds in SOURCES.get(secret.kind, {}).items():
            if option not in {problem.option for problem in wrong}:
                yield from _source(catalogue, f"catalogue_secrets.{name}.{option}", getattr(secret, option), kinds)


def _source(catalogue: Catalogue, path: str, source: str, kinds: Sequence[str]) -> Iterator[Problem]:
    """Yield what is wrong with the secret that another is made from."""
    if source not in catalogue.secrets or catalogue.secrets[source].kind not in kinds:
        others = [name for name, found in catalogue.secrets.items() if found.kind in kinds]
        yield Problem(path, f"there is no secret {source!r} of kind {', '.join(kinds)}", replacement(source, others))


def _cycles(catalogue: Catalogue) -> Iterator[Problem]:
    for ring in cycles(catalogue.live()):
        message = f"the services wait for each other: {' -> '.join([*ring, ring[0]])}"
        yield Problem(f"{catalogue.path_to_change(ring)}.depends_on", message, "take one dependency away")
