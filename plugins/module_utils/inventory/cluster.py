# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory variables of the targets on a Kubernetes cluster."""

from __future__ import annotations

import json
import re
from typing import Any

from .values import (
    InvalidValueError,
    Variable,
    absolute_path,
    as_mapping,
    as_text,
    as_texts,
    as_words,
    boolean,
    each_of,
    matching,
    shown,
    whole_number,
)

_NAME = matching(
    r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?", "the name of a Kubernetes object", "lower case letters, digits, - and dots"
)
# A setting of the catalogue, which a role may be given without an inventory, has the same patterns.
REGISTRY = re.compile(r"[a-z0-9][a-z0-9.-]*(?::[0-9]{1,5})?(?:/[a-z0-9._-]+)*")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_DOMAIN = matching(r"[a-z0-9-]+(?:\.[a-z0-9-]+)+", "a domain", "lakehouse.example.org")


def _namespace(value: Any) -> str:
    text = matching(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", "a namespace", "lower case letters, digits and -")(value)
    if not text or text == "default" or text.startswith("kube-"):
        raise InvalidValueError(f"{shown(value)} cannot hold a lakehouse", "name a namespace of its own")
    return text


def _digests(value: Any) -> dict[str, str]:
    for image, digest in as_texts(value).items():
        if not DIGEST.fullmatch(digest):
            raise InvalidValueError(
                f"the digest of {image!r} is not sha256: and 64 hexadecimal digits",
                f"look {image!r} up in its registry",
            )
    return dict(value)


def _counts(value: Any) -> dict[str, int]:
    """Return numbers by name; a text is JSON, since that is how extra vars may give a mapping."""
    if isinstance(value, str):
        try:
            value = json.loads(value or "{}")
        except ValueError as error:
            raise InvalidValueError("it is not JSON", "write it as '{\"api\": 5}'") from error
    given = as_mapping(value)
    return {name: whole_number(0, 10_000)(count) for name, count in given.items()}


def _charts(value: Any) -> dict[str, dict[str, str]]:
    words = ("version", "repository", "path", "checksum")
    given = {name: as_texts(chart) for name, chart in as_mapping(value).items()}
    for name, chart in given.items():
        unknown = sorted(set(chart) - set(words))
        if unknown:
            raise InvalidValueError(f"{name} has {', '.join(unknown)}", f"a chart has: {', '.join(words)}")
    return given


def _oidc(value: Any) -> dict[str, str]:
    words = ("issuer", "authorizationEndpoint", "tokenEndpoint", "userInfoEndpoint", "secretName")
    given = as_texts(value)
    missing = [word for word in words if not given.get(word)] if given else []
    if missing:
        raise InvalidValueError(f"it lacks {', '.join(missing)}", f"give all of: {', '.join(words)}")
    return given


CLUSTER_VARIABLES: tuple[Variable, ...] = (
    Variable(
        "lakehouse_kubeconfig",
        "Kubeconfig on the controller. `KUBECONFIG` or `~/.kube/config` when empty. On eks only if the cluster's"
        " endpoint is not directly reachable.",
        as_text,
        "",
    ),
    Variable("lakehouse_kube_context", "Context of the kubeconfig. Its current context when empty.", as_text, ""),
    Variable("lakehouse_namespace", "Namespace of the lakehouse.", _namespace, "crypto-lakehouse"),
    Variable(
        "lakehouse_storage_class",
        "Storage class of every volume. The cluster's default when empty, on eks `gp3`.",
        _NAME,
        "",
    ),
    Variable(
        "lakehouse_image_registry",
        "Registry of every image, including those of charts; may contain a path.",
        matching(REGISTRY.pattern, "a registry", "registry.example.org:5000/mirror"),
        "",
    ),
    Variable("lakehouse_image_pull_secrets", "Image pull secrets of the namespace.", each_of(_NAME), []),
    Variable("lakehouse_image_digests", "Digests that pin images, by image name.", _digests, {}),
    Variable(
        "lakehouse_database_ca_bundle",
        "File of certificate authorities that sign the certificate of a cloud database (RDS), on the controller.",
        absolute_path,
        "",
    ),
    Variable(
        "lakehouse_domain",
        "Domain of exposed services, as SERVICE.DOMAIN. No service is exposed when empty.",
        _DOMAIN,
        "",
    ),
    Variable("lakehouse_ingress_services", "Services to expose below the domain.", as_words, ["api", "grafana"]),
    Variable("lakehouse_ingress_class", "Ingress class. `traefik` when empty, on eks `alb`.", _NAME, ""),
    Variable(
        "lakehouse_ingress_install",
        "Whether to install Traefik, for clusters without an ingress controller.",
        boolean,
        False,
    ),
    Variable(
        "lakehouse_control_plane_cidrs",
        "Networks from which the API server reaches pods for health checks. Read from the cluster when empty.",
        as_words,
        [],
    ),
    Variable("lakehouse_ingress_tls_secret", "Secret with the certificate of the domain.", _NAME, ""),
    Variable(
        "lakehouse_ingress_cluster_issuer", "ClusterIssuer of cert-manager that issues the certificates.", _NAME, ""
    ),
    Variable(
        "lakehouse_ingress_certificate_arn",
        "ARN of the ACM certificate of the load balancer, on eks.",
        matching(
            r"arn:[a-z-]+:acm:[a-z0-9-]+:\d{12}:certificate/\S+",
            "the ARN of a certificate",
            "arn:aws:acm:REGION:ACCOUNT:certificate/ID",
        ),
        "",
    ),
    Variable(
        "lakehouse_ingress_oidc",
        "Identity provider with which the load balancer of eks authenticates users of services without a login.",
        _oidc,
        {},
    ),
    Variable(
        "lakehouse_chart_repository",
        "Mirror of all chart repositories: `https://` or `oci://`. The repository of each chart when empty.",
        matching(r"(?:https|oci)://[^\s@]+", "the address of a repository", "https://... or oci://..."),
        "",
    ),
    Variable("lakehouse_chart_username", "Chart repository username.", as_text, ""),
    Variable(
        "lakehouse_chart_password", "Chart repository password, from Vault or any lookup.", as_text, "", secret=True
    ),
    Variable(
        "lakehouse_chart_folder",
        "Folder of charts as NAME-VERSION.tgz on the controller, for networks without a chart repository.",
        absolute_path,
        "",
    ),
    Variable(
        "lakehouse_charts",
        "Overrides of pinned charts by name: `version`, `repository`, `path`, `checksum`.",
        _charts,
        {},
    ),
    Variable(
        "lakehouse_helm_binary",
        "Path of helm on the controller. The program on the search path when empty.",
        as_text,
        "",
    ),
    Variable("lakehouse_scale", "Number of replicas by service, for scale.yml.", _counts, {}),
    Variable(
        "lakehouse_scale_nodes",
        "Number of nodes by node group of eks (`on-demand`, `spot`), for scale.yml.",
        _counts,
        {},
    ),
)
