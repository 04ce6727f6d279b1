# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the description of the services to what a target needs to run them: load, check, render."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any

from ..shared.nearest import replacement
from ..shared.problem import Problem
from ..shared.targets import TARGETS
from .contents import Contents
from .load import load
from .service import Catalogue
from .words import CatalogueError

_Described = Callable[[Mapping[str, Any]], tuple[Catalogue, list[Problem]]]
"""Returns the catalogue for the settings that are placeholders, and what is wrong with it."""


def render(
    services: object,
    secrets: object,
    target: str,
    environment: str,
    overrides: object,
    settings: Mapping[str, Any],
    source: str,
) -> dict[str, Any]:
    """Return what `target` needs to run the services, as plain JSON types.

    `source` is the folder of templates and copied files. Raises :class:`CatalogueError` with everything that is wrong.
    """
    if target not in TARGETS:
        raise CatalogueError(
            [Problem("lakehouse_target", f"{target!r} is not known", replacement(str(target), TARGETS))]
        )
    described = partial(load, services, secrets, target, environment, overrides)
    rendered, problems = _RENDERERS[TARGETS[target].renderer](described, settings, Contents(source))
    if problems:
        raise CatalogueError(problems)
    return dict(rendered)


# Each loads its renderer itself: Ansible compiles what is loaded again in every run.
def _for_cluster(described: _Described, settings: Mapping[str, Any], contents: Contents) -> tuple[Any, list[Problem]]:
    from .kubernetes.cluster import STRUCTURED, Cluster
    from .kubernetes.render import render_kubernetes

    catalogue, problems = described(_without(settings, STRUCTURED))
    cluster, wrong = Cluster.read(settings)
    rendered, more = render_kubernetes(catalogue, cluster, contents)
    return rendered, [*wrong, *problems, *more]


def _for_host(described: _Described, settings: Mapping[str, Any], contents: Contents) -> tuple[Any, list[Problem]]:
    from .host.layout import Place
    from .host.render import render_host

    catalogue, problems = described(_without(settings, {"unavailable"}))
    place, wrong = Place.read(settings)
    rendered, more = render_host(catalogue, place, contents)
    return rendered, [*wrong, *problems, *more]


def _without(settings: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in names}


_RENDERERS = {"host": _for_host, "kubernetes": _for_cluster}
