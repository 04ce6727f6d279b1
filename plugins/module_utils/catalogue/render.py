# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the description of the services to what a target needs to run them: load, check, render."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.catalogue.contents import Contents
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.catalogue.load import load
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.catalogue.service import CLUSTERS, Catalogue
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.catalogue.words import CatalogueError, nearest
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.problem import Problem

RENDERERS = ("host", *CLUSTERS)

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
    if target not in RENDERERS:
        raise CatalogueError([Problem("lakehouse_target", f"{target!r} is not known", nearest(str(target), RENDERERS))])
    described = partial(load, services, secrets, target, environment, overrides)
    rendered, problems = (_for_cluster if target in CLUSTERS else _for_host)(described, settings, Contents(source))
    if problems:
        raise CatalogueError(problems)
    return dict(rendered)


# Each loads its renderer itself: Ansible compiles what is loaded again in every run.
def _for_cluster(described: _Described, settings: Mapping[str, Any], contents: Contents) -> tuple[Any, list[Problem]]:
    from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.catalogue.kubernetes import (
        render_kubernetes,
    )
    from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.catalogue.kubernetes_cluster import (
        STRUCTURED,
        Cluster,
    )

    catalogue, problems = described(_without(settings, STRUCTURED))
    cluster, wrong = Cluster.read(settings)
    rendered, more = render_kubernetes(catalogue, cluster, contents)
    return rendered, [*wrong, *problems, *more]


def _for_host(described: _Described, settings: Mapping[str, Any], contents: Contents) -> tuple[Any, list[Problem]]:
    from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.catalogue.host import render_host
    from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.catalogue.layout import Place

    catalogue, problems = described(_without(settings, {"unavailable"}))
    place, wrong = Place.read(settings)
    rendered, more = render_host(catalogue, place, contents)
    return rendered, [*wrong, *problems, *more]


def _without(settings: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in names}
