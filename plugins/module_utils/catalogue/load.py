# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the catalogue of one target and environment: description, inventory and overlays become one set of services.

Later layers win: the collection's description, its overlay of the target, its overlay of the environment, then the same
three of the inventory. Maps are merged, everything else is replaced, a null takes a word or an entry away.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..inventory.variables import ENVIRONMENTS
from ..shared.nearest import closest, replacement
from ..shared.problem import Problem
from .check import relations
from .placeholders import Scope
from .service import INVENTORY, TARGETS, Catalogue, Secret, Service, label, secret_name
from .words import CatalogueError, Complaint, Reader, path_to

DESCRIPTION = "catalogue_services"
OVERLAYS = {"targets": TARGETS, "environments": ENVIRONMENTS}
ONE_OF = frozenset({"template", "content", "source"})
"""Words of a file that exclude each other: an overlay that gives one takes the place of the others."""


def load(
    services: object,
    secrets: object,
    target: str,
    environment: str,
    overrides: object = None,
    settings: Mapping[str, Any] | None = None,
) -> tuple[Catalogue, list[Problem]]:
    """Return the catalogue and everything that is wrong with it.

    `services`, `secrets` and `overrides` are plain data in the words of :mod:`service`. Raises :class:`CatalogueError`
    for an unknown target or environment, since nothing else can be said then.
    """
    _require("lakehouse_target", target, TARGETS)
    _require("lakehouse_environment", environment, ENVIRONMENTS)
    problems: list[Problem] = []
    chosen = _settings(settings or {}, environment, problems)
    sources = {DESCRIPTION: services, INVENTORY: {} if overrides is None else overrides}
    broken = {name for prefix, source in sources.items() for name in _unreadable(prefix, source, problems)}
    layers = [_layers(source, target, environment) for source in sources.values() if isinstance(source, Mapping)]
    paths = {
        name: path_to(prefix, name)
        for prefix, source in sources.items()
        if isinstance(source, Mapping)
        for name in source
    }
    read: dict[str, Service] = {}
    for name in sorted(set(paths) - broken):
        description: Any = {}
        for layer in (layer for source in layers for layer in source.get(name, [])):
            description = merged(description, layer)
        service = Reader(problems).read(Service, description, paths[name], name=name)
        if service is None:
            broken.add(name)
            problems.extend(_misspelt(name, sources))
        elif service.only_on and target not in service.only_on:
            problems.extend(_elsewhere(service, target, layers[-1].get(name, []), paths[name]))
        else:
            read[name] = service
    catalogue = Catalogue(target, environment, read, _secrets(secrets, problems), chosen, paths, frozenset(broken))
    return catalogue, problems + list(relations(catalogue))


def merged(base: Any, over: Any) -> Any:
    """Return `base` overridden by `over`: maps are merged by key, other values replaced, and null removes a key.

    Keys keep the order of `base`. A pod is replaced when the order of its volumes changes.
    """
    if not isinstance(over, Mapping):
        return over
    under = base if isinstance(base, Mapping) else {}
    excluded = ONE_OF - set(over) if ONE_OF & set(over) else frozenset()
    kept = {key: value for key, value in under.items() if key not in excluded}
    both = kept | {key: merged(under.get(key), value) for key, value in over.items()}
    return {key: value for key, value in both.items() if key not in over or over[key] is not None}


def _require(variable: str, value: str, valid: tuple[str, ...]) -> None:
    if value not in valid:
        raise CatalogueError([Problem(variable, f"{value!r} is not known", replacement(str(value), valid))])


def _layers(source: Mapping[str, Any], target: str, environment: str) -> dict[str, list[Any]]:
    """Return for each service the maps that are laid on each other: words, overlay of target and of environment."""
    result = {}
    for name, description in source.items():
        words = description if isinstance(description, Mapping) else {}
        base = {key: value for key, value in words.items() if key not in OVERLAYS}
        overlays = [words.get("targets"), target], [words.get("environments"), environment]
        result[name] = [base, *(over.get(key) or {} for over, key in overlays if isinstance(over, Mapping))]
    return result


def _unreadable(prefix: str, source: object, problems: list[Problem]) -> Iterator[str]:
    """Check the words of one source, overlays of other targets included, and yield the services that are wrong."""
    if not isinstance(source, Mapping):
        problems.append(Problem(prefix, "it is not a map of services", "write it as `name: {key: value}` lines"))
        return
    for name, description in source.items():
        before, path = len(problems), path_to(prefix, name)
        complaint = label(name) if isinstance(name, str) else (f"{name!r} is not a name", "put it in quotes")
        if name == "supervisor":
            complaint = ("the name is taken by the process manager", "choose another name")
        problems.extend([Problem(path, *complaint)] if complaint else [])
        Reader(problems, partial=True).read(Service, description, path, also=OVERLAYS, name=name)
        if isinstance(description, Mapping):
            for word, valid in OVERLAYS.items():
                _check_overlays(description.get(word), path_to(path, word), valid, problems)
        if len(problems) > before:
            yield name


def _check_overlays(overlays: object, path: str, valid: tuple[str, ...], problems: list[Problem]) -> None:
    if overlays is None:
        return
    if not isinstance(overlays, Mapping):
        problems.append(Problem(path, "it is not a map", f"write it as `{valid[0]}: {{key: value}}` lines"))
        return
    for key, overlay in overlays.items():
        if key not in valid:
            problems.append(Problem(path_to(path, key), f"{key!r} is not known here", replacement(str(key), valid)))
        else:
            Reader(problems, partial=True).read(Service, overlay, path_to(path, key), name="")


def _elsewhere(service: Service, target: str, given: list[Any], path: str) -> Iterator[Problem]:
    """Yield a problem when the inventory switches on what the target does not have; else it is as if not described."""
    if any(layer.get("enabled") is True for layer in given):
        remedy = f"leave it out, or choose one of: {', '.join(service.only_on)}"
        yield Problem(f"{path}.enabled", f"the target {target} does not have {service.name}", remedy)


def _misspelt(name: str, sources: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield a hint when an incomplete service has almost the name of one that the collection describes."""
    known = sources[DESCRIPTION] if isinstance(sources[DESCRIPTION], Mapping) else {}
    near = closest(name, known)
    if name not in known and near is not None:
        yield Problem(path_to(INVENTORY, name), f"there is no service {name!r} to override", f"write {near}")


def _secrets(source: object, problems: list[Problem]) -> dict[str, Secret]:
    if not isinstance(source, Mapping):
        problems.append(
            Problem("catalogue_secrets", "it is not a map of secrets", "write it as `name: {key: value}` lines")
        )
        return {}
    read = {}
    for name, description in source.items():
        path = path_to("catalogue_secrets", name)
        complaint = secret_name(str(name))
        problems.extend([Problem(path, *complaint)] if complaint else [])
        secret = Reader(problems).read(Secret, description, path, name=str(name))
        if secret is not None:
            read[str(name)] = secret
    return read


def _settings(source: Mapping[str, Any], environment: str, problems: list[Problem]) -> dict[str, str]:
    """Return the settings as text; one that is a map is chosen by environment, `${environment}` may occur in any."""
    result: dict[str, str] = {}
    scope = Scope({"environment": environment})
    for name, value in source.items():
        path = path_to("catalogue_settings", name)
        chosen = value.get(environment) if isinstance(value, Mapping) else value
        if not isinstance(chosen, (str, int, float)):
            remedy = "give it a text or a number, or one for each environment"
            problems.append(Problem(path, f"it has no value for {environment}", remedy))
            continue
        text = str(chosen).lower() if isinstance(chosen, bool) else "".join(str(chosen))

        def complain(complaint: Complaint, path: str = path) -> None:
            problems.append(Problem(path, *complaint))

        result[str(name)] = scope.fill(text, complain)
    return result
