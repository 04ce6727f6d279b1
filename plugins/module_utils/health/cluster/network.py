# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judge a cluster's claims, Services and Ingresses. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

from ...kube.apply.volumes import Volume, compare
from ...kube.ready.readiness import status
from ...kube.ready.verdict import Object, Ready, Waiting, mapping, mappings, text
from ..report import DEGRADED, HEALTHY, UNHEALTHY, Check

SERVICE_NAME = "kubernetes.io/service-name"
Place = tuple[str, str]


def judge_claims(
    claims: Iterable[Object], pods: Sequence[Object], late_binding: Collection[str], now_s: float
) -> list[Check]:
    """Return one check for each claim. A claim that binds with its first pod is healthy until a pod waits for it."""
    used = {(text(pod, "metadata", "namespace"), name) for pod in pods for name in _claims_of(pod)}
    return [_judge_claim(claim, place_of(claim) in used, late_binding, now_s) for claim in claims]


def judge_sizes(claims: Sequence[Object], volumes: Iterable[Volume], classes: Sequence[Object] | None) -> list[Check]:
    """Return an unhealthy check for each claim that differs from its described volume. classes: None if unknown."""
    verdicts = [verdict for volume in volumes for verdict in compare(volume, claims, classes)]
    return [
        Check(
            "storage",
            f"{verdict.claim.namespace}/{verdict.claim.name}/size",
            UNHEALTHY,
            verdict.message or f"requests {verdict.before}, and {verdict.after} is described",
            verdict.remedy or "run playbooks/deploy.yml, which expands it",
        )
        for verdict in verdicts
        if verdict.action in {"expand", "refuse"}
    ]


def _claims_of(pod: Object) -> Iterator[str]:
    for volume in mappings(pod, "spec", "volumes"):
        yield text(volume, "persistentVolumeClaim", "claimName")


def place_of(obj: Object) -> Place:
    return text(obj, "metadata", "namespace"), text(obj, "metadata", "name")


def _judge_claim(claim: Object, is_used: bool, late_binding: Collection[str], now_s: float) -> Check:
    namespace, name = place_of(claim)
    said = status(claim, now_s, () if is_used else late_binding)
    if isinstance(said, Ready):
        size = text(claim, "status", "capacity", "storage")
        return Check("storage", f"{namespace}/{name}", HEALTHY, said.detail or f"Bound, {size or 'of unknown size'}")
    leaving = mapping(claim, "metadata").get("deletionTimestamp") is not None
    # A volume stays usable while it is expanded.
    grows = isinstance(said, Waiting) and text(claim, "status", "phase") == "Bound"
    remedy = f"kubectl -n {namespace} describe pvc {name}"
    return Check("storage", f"{namespace}/{name}", DEGRADED if leaving or grows else UNHEALTHY, said.reason, remedy)


def ready_endpoints(slices: Iterable[Object]) -> dict[Place, int]:
    """Return the number of ready endpoints of each Service. Source: EndpointSlice, where unset means ready."""
    counts: dict[Place, int] = {}
    for one in slices:
        service = text(one, "metadata", "namespace"), text(one, "metadata", "labels", SERVICE_NAME)
        ready = [
            point for point in mappings(one, "endpoints") if mapping(point, "conditions").get("ready") is not False
        ]
        counts[service] = counts.get(service, 0) + len(ready)
    return counts


def judge_services(services: Iterable[Object], slices: Iterable[Object], now_s: float) -> list[Check]:
    """Return one check for each Service that selects pods. The backends of others are unknown."""
    counts = ready_endpoints(slices)
    return [
        _judge_service(service, counts.get(place_of(service), 0), now_s)
        for service in services
        if mapping(service, "spec", "selector") and text(service, "spec", "type") != "ExternalName"
    ]


def _judge_service(service: Object, ready: int, now_s: float) -> Check:
    namespace, name = place_of(service)
    subject = f"{namespace}/service/{name}"
    if not ready:
        selector = ",".join(f"{key}={value}" for key, value in mapping(service, "spec", "selector").items())
        remedy = f"kubectl -n {namespace} get pods -l {selector}"
        return Check("network", subject, UNHEALTHY, "none of its endpoints is ready", remedy)
    said = status(service, now_s)
    if not isinstance(said, Ready):
        remedy = f"kubectl -n {namespace} describe service {name}"
        return Check("network", subject, UNHEALTHY, said.reason, remedy)
    return Check("network", subject, HEALTHY, f"{ready} {'endpoint' if ready == 1 else 'endpoints'} ready")


def judge_ingresses(ingresses: Iterable[Object], services: Iterable[Object], now_s: float) -> list[Check]:
    """Return one check for each Ingress: it has an address, and its backend Services exist."""
    known = {place_of(service) for service in services}
    return [_judge_ingress(ingress, known, now_s) for ingress in ingresses]


def _judge_ingress(ingress: Object, known: Collection[Place], now_s: float) -> Check:
    namespace, name = place_of(ingress)
    subject, remedy = f"{namespace}/ingress/{name}", f"kubectl -n {namespace} describe ingress {name}"
    said = status(ingress, now_s)
    if not isinstance(said, Ready):
        return Check("network", subject, UNHEALTHY, said.reason, remedy)
    missing = sorted({backend for backend in _backends(ingress) if (namespace, backend) not in known})
    if missing:
        detail = f"refers to {', '.join(missing)}, which does not exist"
        return Check("network", subject, UNHEALTHY, detail, remedy)
    found = mappings(ingress, "status", "loadBalancer", "ingress")
    addresses = [text(one, "hostname") or text(one, "ip") for one in found]
    return Check("network", subject, HEALTHY, f"at {', '.join(filter(None, addresses))}")


def _backends(ingress: Object) -> Iterator[str]:
    rules = [path for rule in mappings(ingress, "spec", "rules") for path in mappings(rule, "http", "paths")]
    for backend in (mapping(ingress, "spec", "defaultBackend"), *(mapping(path, "backend") for path in rules)):
        # Actions of the AWS Load Balancer Controller are named like a Service, with this value as port.
        if text(backend, "service", "port", "name") != "use-annotation" and text(backend, "service", "name"):
            yield text(backend, "service", "name")
