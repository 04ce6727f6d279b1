# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find problems on the controller that would stop a run on a Kubernetes cluster, and return arguments of its roles."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..module_utils.catalogue.kubernetes.cluster import Cluster
from ..module_utils.cluster.marker import Marker
from ..module_utils.helm.chart_pull import is_version
from ..module_utils.inventory.variables import SECRET_NAMES, no_proxy
from ..module_utils.kube.apply.volumes import described
from ..module_utils.shared.nearest import replacement
from ..module_utils.shared.problem import Problem
from ..module_utils.shared.targets import ON_AWS, TARGETS
from ..module_utils.shared.version import COLLECTION_VERSION, upgrade_refusal
from .aws_preflight import SECRETS as FOUNDATION_SECRETS
from .chart_defaults import CHARTS

CHANGING_VERBS = frozenset({"deploy", "plan", "drift", "upgrade", "scale"})
CHECKING_VERBS = frozenset({"plan", "drift"})
HELM_VERBS = frozenset({"deploy", "plan", "drift", "upgrade"})
AUTOSCALING_CHARTS = ("metrics-server", "prometheus-adapter", "vertical-pod-autoscaler")
# Charts by the API group whose kinds they install.
DEFINED_BY = {
    "monitoring.coreos.com": "kube-prometheus-stack",
    "postgresql.cnpg.io": "cloudnative-pg",
    "traefik.io": "traefik",
}
AUTOSCALED = ["api"]
# Settings of the catalogue that the inventory sets for all clusters.
CLUSTER_SETTINGS = (
    "namespace",
    "image_registry",
    "image_pull_secrets",
    "image_digests",
    "proxy_env",
    "storage_class",
    "control_plane_cidrs",
)
BUNDLES = ("ca_bundle", "database_ca_bundle")
USER = "lakehouse"
_POSTGRESQL = re.compile(r"(?:^|/)postgres(?:ql)?:(\d+)")
_NOT_HANDED_ON = SECRET_NAMES | {"lakehouse_plan"}


def connection(settings: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the connection options of modules: those that the play found, else those of the inventory."""
    told = {"kubeconfig": settings["lakehouse_kubeconfig"], "context": settings["lakehouse_kube_context"]}
    return {word: value for word, value in {**told, **given}.items() if value}


def catalogue_settings(
    settings: Mapping[str, Any], found: Mapping[str, Any], bundles: Mapping[str, str]
) -> dict[str, Any]:
    """Return the settings of the catalogue on this cluster.

    found: settings of the cloud, which take precedence. bundles: certificates of the inventory, by setting.
    """
    namespace = TARGETS[settings["lakehouse_target"]].ingress_namespace
    exposed = settings["lakehouse_ingress_services"] if settings["lakehouse_domain"] else []
    return {
        "market_api_url": settings["lakehouse_market_api_url"],
        "market_archive_url": settings["lakehouse_market_archive_url"],
        "api_tokens": json.dumps(settings["lakehouse_api_tokens"], sort_keys=True),
        "alertmanager_slack_enabled": "alertmanager_slack_webhook_url" in settings["lakehouse_secrets"],
        # Without a storage class, the cluster chooses its default when it creates a volume. The default may change
        # later, and claim templates are immutable.
        **{setting: settings[f"lakehouse_{setting}"] for setting in CLUSTER_SETTINGS},
        **bundles,
        "autoscaled": AUTOSCALED if settings["lakehouse_auto_scaling"] else [],
        "ingress_services": exposed,
        "ingress_namespaces": [namespace] if exposed and namespace else [],
        **found,
    }


def read_bundles(settings: Mapping[str, Any]) -> tuple[dict[str, str], list[Problem]]:
    """Return the certificates in files of the controller, by the setting of the catalogue."""
    bundles, problems = {}, []
    for setting in BUNDLES:
        path = settings[f"lakehouse_{setting}"]
        try:
            bundles[setting] = Path(path).expanduser().read_text(encoding="utf-8") if path else ""
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no text"
            remedy = "name a file of certificates in PEM on this controller"
            problems.append(Problem(f"lakehouse_{setting}", f"{path} cannot be read: {reason}", remedy))
            bundles[setting] = ""
    return bundles, problems


def cluster_problems(settings: Mapping[str, Any]) -> list[Problem]:
    """Return problems of the settings of a cluster, before services are rendered for it."""
    bundles, problems = read_bundles(settings)
    named = {setting: settings[f"lakehouse_{setting}"] for setting in CLUSTER_SETTINGS}
    return [*problems, *Cluster.read({**named, **bundles})[1]]


def needs_volumes(manifests: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether a manifest has a volume without a storage class."""
    return any(
        manifest["kind"] == "PersistentVolumeClaim" or manifest.get("spec", {}).get("volumeClaimTemplates")
        for manifest in manifests
    )


def volumes(manifests: Iterable[Mapping[str, Any]], namespace: str) -> list[dict[str, Any]]:
    """Return the volumes that the manifests describe, as options of modules."""
    return [volume.to_data() for volume in described(manifests, namespace)]


def objects(manifests: Iterable[Mapping[str, Any]], namespace: str) -> list[dict[str, str]]:
    """Return the distinct kinds and namespaces of manifests, for the check of permissions."""
    kinds = {
        (manifest["apiVersion"], manifest["kind"], manifest["metadata"].get("namespace") or namespace)
        for manifest in manifests
    }
    words = ("api_version", "kind", "namespace")
    return [dict(zip(words, kind, strict=True)) for kind in sorted(kinds)]


def locks(settings: Mapping[str, Any], services: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the kind of Traefik's auth middleware if an ingress backend uses one. services: those of the renderer."""
    exposed = settings["lakehouse_ingress_services"] if settings["lakehouse_domain"] else []
    asks = any((services.get(name) or {}).get("login") for name in exposed)
    if TARGETS[settings["lakehouse_target"]].ingress_controller != "traefik" or not asks:
        return []
    return [{"api_version": "traefik.io/v1alpha1", "kind": "Middleware", "namespace": settings["lakehouse_namespace"]}]


def lock_problems(
    settings: Mapping[str, Any], facts: Mapping[str, Any], services: Mapping[str, Any]
) -> Iterator[Problem]:
    """Reject auth middleware on a cluster without a Traefik that supports it."""
    if "traefik.io" in facts["unserved"] and locks(settings, services) and not settings["lakehouse_ingress_install"]:
        message = "the cluster's ingress controller cannot ask for passwords: it has no Middleware of traefik.io"
        remedy = "set lakehouse_ingress_install: true, or expose only what asks itself"
        yield Problem("lakehouse_ingress_services", message, remedy)


def question(
    verb: str,
    settings: Mapping[str, Any],
    reached: Mapping[str, Any],
    manifests: Sequence[Mapping[str, Any]],
    services: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the options of the module that checks the cluster."""
    namespace = settings["lakehouse_namespace"]
    exposes = settings["lakehouse_domain"] and verb in HELM_VERBS and not settings["lakehouse_ingress_install"]
    # The controller of EKS installs its class.
    installed = settings["lakehouse_target"] in ON_AWS
    wanted = settings["lakehouse_ingress_class"] or TARGETS[settings["lakehouse_target"]].ingress_class
    return {
        **reached,
        "verb": verb,
        "target": settings["lakehouse_target"],
        "environment": settings["lakehouse_environment"],
        "namespace": namespace,
        "objects": objects(manifests, namespace) + locks(settings, services) if verb in CHANGING_VERBS else [],
        "needs_volumes": verb in HELM_VERBS and needs_volumes(manifests) and not installed,
        "storage_class": settings["lakehouse_storage_class"],
        "volumes": volumes(manifests, namespace),
        "ingress_class": wanted if exposes and not installed else "",
        "helm_binary": settings["lakehouse_helm_binary"],
        "needs_helm": verb in HELM_VERBS,
    }


def planned_facts(
    settings: Mapping[str, Any], kubernetes_version: str, manifests: Iterable[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return facts of a cluster that does not exist yet."""
    groups = {manifest["apiVersion"].rpartition("/")[0] for manifest in manifests}
    return {
        "unserved": sorted(groups & set(DEFINED_BY)),
        "server_version": "",
        "minor_version": kubernetes_version,
        "namespace_exists": False,
        "namespace_is_ours": False,
        "marker": None,
        "storage_class": settings["lakehouse_storage_class"],
        "helm": {},
        "claims": [],
        "autoscalers": {},
        "own_parts": list(TARGETS[settings["lakehouse_target"]].own_charts),
    }


def version_problems(verb: str, facts: Mapping[str, Any], namespace: str) -> list[Problem]:
    """Return problems of this verb with the version of an earlier deployment, or without such a deployment."""
    marker = facts["marker"]
    if marker is None or marker["removed"]:
        if verb in {"deploy", "plan", "destroy"}:
            return []
        message = f"namespace {namespace} holds no lakehouse"
        return [Problem("lakehouse_namespace", message, "run playbooks/deploy.yml first")]
    deployed = marker["version"]
    refusal = upgrade_refusal(deployed)
    if refusal:
        message = f"namespace {namespace}: {refusal}"
        return [Problem("lakehouse_namespace", message, "use a collection of the version named")]
    if deployed != COLLECTION_VERSION and verb in CHANGING_VERBS - {"upgrade"}:
        message = f"namespace {namespace} was deployed by version {deployed}, this is {COLLECTION_VERSION}"
        return [Problem("lakehouse_namespace", message, "run playbooks/upgrade.yml")]
    return []


def postgresql_major(manifests: Iterable[Mapping[str, Any]]) -> int:
    """Return the major version of PostgreSQL that would run on the cluster; 0 without PostgreSQL."""
    for manifest in manifests:
        spec = manifest.get("spec") or {}
        pod = (spec.get("template") or {}).get("spec") or {}
        images = [container["image"] for container in pod.get("containers", ()) if container.get("image")]
        for image in [str(spec.get("imageName", "")), *images]:
            found = _POSTGRESQL.search(image.partition("@")[0])
            if found:
                return int(found[1])
    return 0


def data_problems(verb: str, facts: Mapping[str, Any], major: int) -> Iterator[Problem]:
    """Reject a major version of PostgreSQL that differs from the version of the data."""
    written = (facts["marker"] or {}).get("postgresql_major", 0)
    if verb in CHANGING_VERBS and written and major and written != major:
        message = f"the data was written by PostgreSQL {written}, which PostgreSQL {major} does not read"
        remedy = (
            f"keep version {written} in lakehouse_services.database, or take a dump, destroy with "
            "lakehouse_destroy_data, deploy and restore it"
        )
        yield Problem("lakehouse_services", message, remedy)


def exposure_problems(settings: Mapping[str, Any], services: Iterable[str]) -> Iterator[Problem]:
    """Reject the exposure of unknown services. Services are not exposed without a domain."""
    known = sorted(services)
    for name in settings["lakehouse_ingress_services"] if settings["lakehouse_domain"] else ():
        if name not in known:
            yield Problem("lakehouse_ingress_services", f"there is no service {name!r} here", replacement(name, known))


def ingress_problems(settings: Mapping[str, Any], services: Iterable[str]) -> Iterator[Problem]:
    """Reject the exposure of unknown services, and a domain without a certificate."""
    yield from exposure_problems(settings, services)
    yield from certificate_problems(settings)


def certificate_problems(settings: Mapping[str, Any]) -> Iterator[Problem]:
    """Reject a domain without a certificate."""
    if not settings["lakehouse_domain"]:
        return
    if settings["lakehouse_target"] in ON_AWS:
        if not settings["lakehouse_ingress_certificate_arn"]:
            remedy = "name a certificate of ACM for the domain in lakehouse_ingress_certificate_arn"
            yield Problem("lakehouse_domain", "the load balancer has no certificate", remedy)
    elif not (settings["lakehouse_ingress_tls_secret"] or settings["lakehouse_ingress_cluster_issuer"]):
        remedy = "name lakehouse_ingress_tls_secret, or with cert-manager lakehouse_ingress_cluster_issuer"
        yield Problem("lakehouse_domain", "what is exposed below it has no certificate", remedy)


def marker(settings: Mapping[str, Any], facts: Mapping[str, Any], major: int) -> dict[str, str]:
    """Return the marker of the lakehouse in its namespace, as the data of a ConfigMap."""
    before = facts["marker"] or {}
    is_made = before.get("made_namespace") or facts["namespace_is_ours"] or not facts["namespace_exists"]
    told = Marker(
        version=COLLECTION_VERSION,
        target=settings["lakehouse_target"],
        environment=settings["lakehouse_environment"],
        made_namespace=bool(is_made),
        postgresql_major=major or before.get("postgresql_major", 0),
        scale=scale(settings, facts),
    )
    data: dict[str, str] = told.manifest(settings["lakehouse_namespace"])["data"]
    return data


def scale(settings: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, int]:
    """Return the replicas that earlier runs and this run of scale.yml set."""
    before = (facts.get("marker") or {}).get("scale") or {}
    return {**before, **settings["lakehouse_scale"]}


def overrides(settings: Mapping[str, Any], facts: Mapping[str, Any], known: Collection[str]) -> dict[str, Any]:
    """Return the services of the inventory with the replicas of scale.yml; numbers in the inventory take precedence.

    known: the names of all described services. Another check reports unknown services.
    """
    services = dict(settings["lakehouse_services"])
    for name, count in scale(settings, facts).items():
        words = services.get(name) or {}
        if name in known and isinstance(words, Mapping) and "replicas" not in words:
            services[name] = {**words, "replicas": count}
    return services


def charts(settings: Mapping[str, Any], defaults: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, str]]:
    """Return the source of each chart by name, as options of the roles.

    defaults: sources that the roles use for values that the inventory does not set.
    """
    mirror = settings["lakehouse_chart_repository"]
    found = {}
    for name in CHARTS:
        given = settings["lakehouse_charts"].get(name, {})
        chosen = {
            "repository": given.get("repository") or mirror,
            "version": given.get("version"),
            "path": chart_path(settings, name),
            "checksum": given.get("checksum"),
        }
        found[name] = {**defaults[name], **{key: value for key, value in chosen.items() if value}}
    return found


def chart_path(settings: Mapping[str, Any], name: str) -> str:
    """Return the path of a chart, which a folder contains as NAME-VERSION.tgz; empty without one."""
    given, folder = settings["lakehouse_charts"].get(name, {}), settings["lakehouse_chart_folder"]
    if given.get("path") or not folder:
        return str(given.get("path", ""))
    version = given.get("version")
    return str(Path(folder).expanduser() / f"{name}-{version}.tgz") if version else _package(folder, name)


def _package(folder: str, name: str) -> str:
    """Return the only package, or the unpacked folder, of a chart in a folder; empty without one."""
    place = Path(folder).expanduser()
    packages = [path for path in sorted(place.glob(f"{name}-*.tgz")) if path.name[len(name) + 1 :][:1].isdigit()]
    return str(packages[-1] if packages else place / name if (place / name / "Chart.yaml").is_file() else "")


def chart_problems(settings: Mapping[str, Any], wanted: Iterable[str]) -> Iterator[Problem]:
    """Reject unused charts, and a folder without a required chart: it is set where repositories are unreachable."""
    for name in settings["lakehouse_charts"]:
        if name not in CHARTS:
            yield Problem("lakehouse_charts", f"no chart is called {name!r}", replacement(name, CHARTS))
        version = str(settings["lakehouse_charts"][name].get("version") or "")
        if version and not is_version(version):
            remedy = "write it as in its Chart.yaml, like 1.2.3"
            yield Problem("lakehouse_charts", f"{name}: {version!r} is not a version", remedy)
    yield from _account_problems(settings)
    yield from folder_problems(settings, wanted)


def autoscaling_charts(settings: Mapping[str, Any], facts: Mapping[str, Any]) -> list[str]:
    """Return the charts that the autoscaling installs on this cluster."""
    if not settings["lakehouse_auto_scaling"]:
        return []
    return [name for name in AUTOSCALING_CHARTS if name not in facts["own_parts"]]


def folder_problems(settings: Mapping[str, Any], wanted: Iterable[str]) -> Iterator[Problem]:
    """Reject a folder that lacks one of these charts."""
    if not settings["lakehouse_chart_folder"]:
        return
    for name in wanted:
        path = chart_path(settings, name)
        if not path or not Path(path).exists():
            message = f"{settings['lakehouse_chart_folder']} holds no chart {name}"
            yield Problem("lakehouse_chart_folder", message, f"put {name}-VERSION.tgz there, as `helm pull` gives it")


def _account_problems(settings: Mapping[str, Any]) -> Iterator[Problem]:
    """Reject incomplete credentials, and credentials that a repository other than the mirror would receive."""
    username, password = settings["lakehouse_chart_username"], settings["lakehouse_chart_password"]
    if bool(username) != bool(password):
        missing = "lakehouse_chart_password" if username else "lakehouse_chart_username"
        yield Problem(missing, "the account of the chart repository is not complete", f"set {missing}")
    if not username:
        return
    if not settings["lakehouse_chart_repository"]:
        remedy = "name the repository that asks for it"
        yield Problem("lakehouse_chart_repository", "lakehouse_chart_username is an account of nothing", remedy)
    host = urlsplit(settings["lakehouse_chart_repository"]).netloc
    for name, chart in settings["lakehouse_charts"].items():
        if not chart.get("path") and urlsplit(chart.get("repository", "")).netloc not in ("", host):
            message = f"{name} comes from another host than the mirror, which would be told the mirror's account"
            yield Problem("lakehouse_charts", message, "put it into the mirror, or give it as a path")


def backends(settings: Mapping[str, Any], rendered: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the ingress backends of the inventory, with their service and auth middleware.

    The role monitoring applies Grafana's.
    """
    found = []
    for name in settings["lakehouse_ingress_services"] if settings["lakehouse_domain"] else ():
        host, _colon, port = rendered["addresses"].get(name, {}).get("http", "").rpartition(":")
        if name == "grafana" or not host:
            continue
        service, namespace = host.split(".")[:2]
        described = rendered["services"][name]["ports"]["http"]
        door: dict[str, Any] = {"name": name, "service": service, "namespace": namespace, "port": int(port)}
        login = rendered["services"][name]["login"]
        door["authenticates"] = not login and bool(described["authenticated"]) and not described["private"]
        if not door["authenticates"]:
            password = login or f"{name.replace('-', '_')}_password"
            door |= {"username": USER, "password_secret": f"{password}_bcrypt"}
        health = rendered["services"][name].get("health") or {}
        found.append({**door, "health_path": health.get("path") or "/"})
    return found


def extra_secrets(doors: Iterable[Mapping[str, Any]], rendered: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the secrets that only auth middleware uses: hashes, and the passwords that are hashed."""
    known = {secret["name"] for secret in rendered["secrets"]}
    wanted: dict[str, dict[str, Any]] = {}
    for door in doors:
        if "password_secret" in door:
            password = door["password_secret"].removesuffix("_bcrypt")
            wanted[password] = {"name": password, "kind": "password"}
            wanted[door["password_secret"]] = {"name": door["password_secret"], "kind": "bcrypt", "of": password}
    return [secret for name, secret in wanted.items() if name not in known]


def helm(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return the program helm and its username, as options of the roles. The play adds the password."""
    return {"binary": settings["lakehouse_helm_binary"], "username": settings["lakehouse_chart_username"]}


def images(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the registry and the pull secrets of images, as options of the roles."""
    return {
        "registry": settings["lakehouse_image_registry"],
        "pull_secrets": settings["lakehouse_image_pull_secrets"],
    }


def proxy_environment(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return the proxy variables of clients inside of the cluster."""
    return no_proxy(settings["lakehouse_proxy_env"], [".svc", ".svc.cluster.local", ".cluster.local"])


def foundation_secrets(settings: Mapping[str, Any]) -> list[str]:
    """Return the names of secrets that only the foundation of a cloud uses."""
    return [secret.name for secret in FOUNDATION_SECRETS] if settings["lakehouse_target"] in ON_AWS else []


def service_secrets(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return the secrets of services in the inventory."""
    others = foundation_secrets(settings)
    return {name: value for name, value in settings["lakehouse_secrets"].items() if name not in others}


def handed_on(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings without values of secrets."""
    return {name: value for name, value in settings.items() if name not in _NOT_HANDED_ON}
