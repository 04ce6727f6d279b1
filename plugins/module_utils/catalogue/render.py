# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the description of the services to what a target needs to run them: load, check, render."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.catalogue.contents import Contents
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.catalogue.host import render_host
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.catalogue.kubernetes import render_kubernetes
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.catalogue.kubernetes_cluster import (
    STRUCTURED,
    Cluster,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.catalogue.layout import Place
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.catalogue.load import load
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.catalogue.service import CLUSTERS
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.catalogue.words import CatalogueError, nearest
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.problem import Problem

RENDERERS = ("host", *CLUSTERS)


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
    on_cluster = target in CLUSTERS
    structured = STRUCTURED if on_cluster else {"unavailable"}
    values = {name: value for name, value in settings.items() if name not in structured}
    catalogue, problems = load(services, secrets, target, environment, overrides, values)
    if on_cluster:
        cluster, wrong = Cluster.read(settings)
        rendered, more = render_kubernetes(catalogue, cluster, Contents(source))
    else:
        place, wrong = Place.read(settings)
        rendered, more = render_host(catalogue, place, Contents(source))
    found = [*wrong, *problems, *more]
    if found:
        raise CatalogueError(found)
    return dict(rendered)
