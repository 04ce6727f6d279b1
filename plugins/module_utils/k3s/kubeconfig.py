# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kubeconfig of the controller, which an installation replaces: its owner, and the CA of its cluster."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from ..shared.problem import Problem
from .tokens import ca_hash

VARIABLE = "k3s_kubeconfig"
REMEDY = (
    "set `k3s_kubeconfig` to a file of this cluster alone, and list both files in the environment variable KUBECONFIG"
)


def kubeconfig_problems(path: str, document: Any, cluster: str) -> list[Problem]:
    """Return the problem of a file with several clusters: a run would replace it by that of `cluster`.

    document: the parsed file, None for an empty one.
    """
    if document is None:
        return []
    clusters, contexts = _named(document, "clusters"), _named(document, "contexts")
    if not clusters:
        return [Problem(VARIABLE, f"{path} is not a kubeconfig, and a run would replace it", REMEDY)]
    if len(clusters) == 1 and len(contexts) <= 1:
        return []
    current = _current(document)
    names = ", ".join(sorted({*clusters, *contexts}))
    whose = "" if current == cluster else f" and its current context is `{current}`, not `{cluster}`"
    return [Problem(VARIABLE, f"{path} holds {names}{whose}: a run would replace it", REMEDY)]


def kubeconfig_ca_hash(document: Any) -> str:
    """Return the hash of the CA of the cluster of the current context, else of the first; empty where there is none."""
    clusters, contexts = _named(document, "clusters"), _named(document, "contexts")
    name = str(_inner(contexts.get(_current(document)), "context").get("cluster", ""))
    entry = clusters.get(name) or next(iter(clusters.values()), None)
    try:
        return ca_hash(base64.b64decode(_inner(entry, "cluster")["certificate-authority-data"]))
    except (KeyError, TypeError, ValueError, binascii.Error):
        return ""


def _current(document: Any) -> str:
    return str(document.get("current-context") or "") if isinstance(document, Mapping) else ""


def _named(document: Any, kind: str) -> dict[str, Any]:
    """Return the entries of a kind by their name; none of a document that is not a kubeconfig."""
    listed = document.get(kind) if isinstance(document, Mapping) else None
    entries = listed if isinstance(listed, list) else []
    return {str(each.get("name", "")): each for each in entries if isinstance(each, Mapping)}


def _inner(entry: Any, key: str) -> Mapping[str, Any]:
    found = entry.get(key) if isinstance(entry, Mapping) else None
    return found if isinstance(found, Mapping) else {}
