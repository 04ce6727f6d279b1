# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Renders the catalogue as the objects of a Kubernetes cluster: a pure function of the model.

Nothing but names and markers of secrets goes in or comes out. Services do not wait for each other: one that finds
nobody ends, or is not ready, and the cluster tries again. So the order in which machines come back does not matter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from ...shared.problem import Problem
from ..needs import needed_secrets, scraped_secrets
from ..resolve import Resolver, Texts
from ..service import Catalogue, plain
from .cluster import Cluster
from .layout import INSTANCE, ClusterLayout
from .network import policies
from .objects import namespace, objects, shared, too_large, workload, workload_kind
from .part import SUPERUSER_PASSWORD, Entry, Part
from .postgresql import PRIMARY
from .probes import weaker


def render_kubernetes(catalogue: Catalogue, cluster: Cluster, texts: Texts) -> tuple[Entry, list[Problem]]:
    """Return the objects that run the catalogue, as plain JSON types, and everything that is wrong with it."""
    layout = ClusterLayout(catalogue, cluster)
    problems = [*layout.problems(), *cluster.unknown_services(layout.present)]
    parts = list(_parts(layout, texts, problems))
    manifests = [*shared(parts), *(found for part in parts for found in objects(part)), *policies(layout, parts)]
    problems += [problem for part in parts for problem in _unwritable(part)]
    problems += list(_twins(layout, manifests))
    on_demand = [part for part in parts if part.service.on_demand]
    readers = {part.name: part.secrets() for part in parts} | _stand_ins(layout)
    rendered = {
        "services": {name: plain(service) for name, service in sorted(catalogue.services.items())},
        "namespace": namespace(cluster.namespace),
        "manifests": manifests,
        "jobs": {part.name: workload(part) for part in on_demand},
        "workloads": [_workload(part) for part in parts if part.runs],
        "rollout_s": max((_rollout_s(part) for part in parts if part.runs), default=0),
        "addresses": {name: {port: str(at) for port, at in found.items()} for name, found in layout.addresses.items()},
        "health": [check for part in parts for check in _health(part)],
        "secrets": needed_secrets(catalogue, readers),
        "images": sorted({image for part in parts for image in _images(part)}),
        "operators": sorted({part.operator.name for part in parts if part.operator}),
        "omitted": list(_omitted(layout)),
        "notices": [
            {"service": part.name, "message": message} for part in parts if part.runs for message in weaker(part)
        ],
    }
    return rendered, problems


def _parts(layout: ClusterLayout, texts: Texts, problems: list[Problem]) -> Iterator[Part]:
    catalogue = layout.catalogue
    variables = {
        "services": {name: plain(service) for name, service in layout.present.items()},
        "settings": dict(catalogue.settings),
        "environment": catalogue.environment,
        "target": catalogue.target,
    }
    resolver = Resolver(texts, variables, catalogue.broken, problems)
    scraped = scraped_secrets(layout.present.values())
    for service in layout.present.values():
        scope = layout.scope(service, {*service.secrets, *(scraped if service.scrapes else ())})
        resolved = resolver.resolve(service, catalogue.paths[service.name], scope, plain(service))
        yield Part(layout, service, resolved)


def _unwritable(part: Part) -> Iterator[Problem]:
    """Yield what a service's words ask for and an object of the cluster cannot hold."""
    path, resolved = part.layout.catalogue.paths[part.name], part.resolved
    unexpanded = {f"files[{name}]": text for name, text in resolved.files.items()}
    unexpanded |= {f"environment.{name}": text for name, text in part.secret_environment.items()}
    unexpanded |= {f"health.command[{index}]": text for index, text in enumerate(resolved.health_command)}
    unexpanded |= {"directory": resolved.directory or ""}
    for place, text in unexpanded.items():
        if INSTANCE in text:
            remedy = "name it in `command`, or in a variable without a secret"
            yield Problem(f"{path}.{place}", "${instance} is known only when a pod has started", remedy)
    for kind, size in too_large(part):
        remedy = "keep large files in an image or in the object store"
        yield Problem(f"{path}.files", f"they are {size} bytes, more than a {kind} can hold", remedy)
    if part.operator and SUPERUSER_PASSWORD not in part.layout.catalogue.secrets:
        remedy = f"describe {SUPERUSER_PASSWORD} in catalogue_secrets"
        yield Problem(f"{path}.operated_by", "its administrator has no password", remedy)


def _twins(layout: ClusterLayout, manifests: list[Entry]) -> Iterator[Problem]:
    """Yield names that two objects of one kind have."""
    counts = Counter((found["kind"], found["metadata"]["name"]) for found in manifests)
    for (kind, name), count in sorted(counts.items()):
        if count > 1:
            path = layout.catalogue.paths.get(name, "catalogue_services")
            yield Problem(path, f"two objects of kind {kind} are called {name}", "choose another name")


def _workload(part: Part) -> Entry:
    kind = workload_kind(part)
    name = workload(part)["metadata"]["name"] if kind == "Job" else part.name
    place = {"name": name, "namespace": part.layout.cluster.namespace}
    return {"service": part.name, "kind": kind, **place, "replicas": None if part.is_autoscaled else _count(part)}


def _rollout_s(part: Part) -> int:
    """Return how many seconds it may take to replace the pods of a service one after the other."""
    start_s = part.service.health.start_period_s if part.service.health else 0
    return 0 if part.service.kind == "job" else _count(part) * (part.service.stop.timeout_s + start_s)


def _count(part: Part) -> int:
    return part.operator.instances if part.operator else part.service.replicas


def _health(part: Part) -> Iterator[Entry]:
    """Yield how one sees from inside of the cluster that a service works."""
    health = part.service.health
    if health is None:
        return
    words = ("type", "interval_s", "timeout_s", "retries", "start_period_s")
    check = {"service": part.name, **{word: getattr(health, word) for word in words}}
    owner = part.layout.owner(part.name)
    check |= {"owner": owner, "namespace": part.layout.cluster.namespace}
    if part.operator:
        # Replicas that are well serve nobody who writes.
        check["labels"] = dict(PRIMARY)
    address = part.layout.addresses[part.name].get(health.port or "")
    if health.type == "command":
        yield check | {"command": list(part.resolved.health_command)}
    elif health.type == "tcp" and address:
        yield check | {"address": address.host, "port": address.port}
    elif address:
        check |= {"url": f"http://{address}{health.path}", "expected_status": list(health.expected_status)}
        user = health.authentication
        yield check | ({"username": user.username, "secret": user.secret} if user else {})


def _stand_ins(layout: ClusterLayout) -> dict[str, set[str]]:
    """Return the secrets of what stands in for a service: it is opened by them as the service would be."""
    return {
        service.name: {name for name in service.secrets if name in layout.catalogue.secrets}
        for service in layout.catalogue.live()
        if service.name not in layout.present
    }


def _images(part: Part) -> Iterator[str]:
    image = part.operator.image if part.operator else part.service.image
    if part.runs and image:
        yield part.layout.cluster.image(image)


def _omitted(layout: ClusterLayout) -> Iterator[Entry]:
    """Yield what is described but not on the cluster, and why."""
    for name, service in sorted(layout.catalogue.services.items()):
        if not service.enabled:
            yield {"service": name, "reason": "switched off"}
        elif layout.catalogue.target in service.managed:
            yield {"service": name, "reason": f"provided by {service.managed[layout.catalogue.target]}"}
