# SPDX-License-Identifier: GPL-3.0-or-later
"""The replicated database of production on a cluster that runs it, and a client that writes into it."""

from __future__ import annotations

import contextlib
import itertools
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.catalogue.kubernetes.trust import (
    DATABASE_CA_CONFIG,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.cluster.secrets import Wish, keep
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.health.cluster.examine import (
    ClusterInstallation,
    examine_cluster,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.client import Client
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.config import connection
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.discovery import Discovery
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.errors import ApiError
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.ready.job import run_job
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.secrets.values import SecretSpec
from tests.integration.kube.applying import Fields, Shop, look
from tests.unit.catalogue.clusters import platform_on, workloads

SERVICE, STORE, SET = "database", "lakehouse-secrets", "lakehouse-services"
API = "/apis/postgresql.cnpg.io/v1"
OPERATOR = "app.kubernetes.io/name=cloudnative-pg"
DEFINITION = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/clusters.postgresql.cnpg.io"
CALLER = "worker"
"""A service that the rendered policies allow to connect to the database, and that the clients here represent."""
READY_S = 900
JOB_S = 120
TEXT = "text/plain, */*"
# Small enough for one machine; all other settings are those of production.
SMALLER = {
    "volumes": {"data": {"size": "1Gi"}},
    "resources": {"requests": {"cpu": "50m", "memory": "192Mi"}, "limits": {"cpu": "1", "memory": "512Mi"}},
}
# A server that disappears without notice is given up.
PSQL = "psql -XAtq -d 'dbname=postgres connect_timeout=3 tcp_user_timeout=3000'"
# Each row uses a separate connection. A number is used once, independent of its result, and counts as committed only
# after the server's acknowledgement.
WRITER = """
until ask 'CREATE TABLE IF NOT EXISTS kept (number bigint PRIMARY KEY)' &&
  number=$(ask 'SELECT coalesce(max(number), 0) FROM kept'); do sleep 0.2; done
while :; do
  number=$((number + 1))
  if ask "INSERT INTO kept VALUES ($number)" 2>/tmp/error; then
    echo "committed $number $(date +%s.%N)"
  else
    echo "refused $number: $(head -n 1 /tmp/error)"
    sleep 0.1
  fi
done
"""
_COMMITTED = re.compile(r"^committed (\d+) ([\d.]+)$", re.MULTILINE)


def lacks(client: Client) -> str:
    """Return the requirements of the replicated database that a cluster lacks, or an empty text."""
    # The definitions stay after the removal of an operator.
    operators = client.pages("/apis/apps/v1/deployments", query={"labelSelector": OPERATOR})
    if look(client, DEFINITION) is None or not any(True for _one in operators):
        return "no CloudNativePG"
    if not any(_is_true(node, "Ready") for node in client.pages("/api/v1/nodes")):
        return "no node that runs pods"
    return ""


def until(found: Callable[[], Any], what: str, timeout_s: float) -> Any:
    """Return the result as soon as it exists."""
    deadline_s = time.monotonic() + timeout_s
    while not (value := found()):
        assert time.monotonic() < deadline_s, f"not within {timeout_s:.0f} s: {what}"
        time.sleep(0.2)
    return value


@dataclass(frozen=True)
class Written:
    """Acknowledgements of a writer: number to the time of its commit, in seconds since 1970."""

    commits: Mapping[int, float]

    @property
    def longest_pause_s(self) -> float:
        """The longest time between two acknowledgements."""
        times = sorted(self.commits.values())
        return max((after - before for before, after in itertools.pairwise(times)), default=0.0)


@dataclass
class Database:
    """The catalogue's objects of the production database, in a separate namespace."""

    shop: Shop
    discovery: Discovery = field(init=False)

    def __post_init__(self) -> None:
        self.discovery = Discovery(self.shop.client)

    @cached_property
    def rendered(self) -> Fields:
        return platform_on("k3s", "production", {SERVICE: SMALLER}, namespace=self.shop.namespace)

    @cached_property
    def manifests(self) -> list[Fields]:
        """Return the namespace, the database's own objects, and the policies of the namespace and of a client."""
        own = [one for one in self.rendered["manifests"] if self._concerns_database(one)]
        return [self.rendered["namespace"], *own]

    def _concerns_database(self, manifest: Fields) -> bool:
        kind, name = manifest["kind"], manifest["metadata"]["name"]
        if kind == "PriorityClass":
            return True
        if kind == "NetworkPolicy" and name in ("default-deny", "allow-dns", CALLER):
            return True
        # A cluster without Prometheus does not have the kinds of scrape targets.
        is_served = self.discovery.find(manifest["apiVersion"], kind) is not None
        return is_served and manifest["metadata"]["labels"].get("app.kubernetes.io/name") == SERVICE

    def keep_secrets(self, *, rotate: bool = False) -> None:
        """Create the secret values of the manifests, as the role does."""
        wanted = [one for one in self.rendered["secrets"] if SERVICE in one["services"]]
        specs = [SecretSpec(one["name"], one["kind"]) for one in wanted]
        keep(self.shop.client, Wish(STORE, self.shop.namespace, specs, rotate=rotate))

    def apply(self, **options: Any) -> Fields:
        """Apply all objects as the role does, and wait until they are ready."""
        given = {"secrets_from": STORE, "prune": SET, "wait": True, "wait_timeout": READY_S}
        return self.shop.run(*self.manifests, **{**given, **options})

    def remove(self) -> Fields:
        """Delete all objects, including the namespace."""
        return self.shop.run(*self.manifests, state="absent", wait=True, wait_timeout=JOB_S)

    @property
    def primary(self) -> str:
        """The instance that the operator reports as primary; None during a failover."""
        status = (self.shop.get("clusters", SERVICE, API) or {}).get("status", {})
        current = str(status.get("currentPrimary", ""))
        return current if status.get("targetPrimary") == current else ""

    def identity(self, instance: str) -> str:
        """Return the identity that distinguishes the pod of an instance from others of the same name."""
        return str((self.shop.get("pods", instance) or {}).get("metadata", {}).get("uid", ""))

    def instances(self) -> dict[str, str]:
        """Return the ready instances with their roles: primary or replica."""
        query = {"labelSelector": f"cnpg.io/cluster={SERVICE},cnpg.io/podRole=instance"}
        pods = self.shop.client.pages(self.shop.path("pods", "").rstrip("/"), query=query)
        stays = (pod for pod in pods if _is_true(pod, "Ready") and "deletionTimestamp" not in pod["metadata"])
        return {pod["metadata"]["name"]: pod["metadata"]["labels"].get("cnpg.io/instanceRole", "") for pod in stays}

    def kill_pod(self, instance: str) -> None:
        """Delete a pod without notice, as the loss of its machine does."""
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0}
        self.shop.client.request("DELETE", self.shop.path("pods", instance), body=body)

    def kill_server(self) -> None:
        """Kill the postmaster of the primary, as a machine without memory does."""
        # The answer may or may not arrive.
        self._run("ask \"COPY (SELECT) TO PROGRAM 'kill -KILL \\$(head -n 1 postmaster.pid)'\" || :")

    def ailing(self) -> dict[str, str]:
        """Return lakehouse_health's unhealthy checks of this namespace; the rest of the cluster is out of scope."""
        checks = [one for one in self.rendered["health"] if one["service"] == SERVICE]
        installation = ClusterInstallation(namespaces=(self.shop.namespace,), health=checks, timeout_s=10.0)
        report = examine_cluster(lambda: connection({"kubeconfig": str(self.shop.cluster.kubeconfig)}), installation)
        ours = (f"/{self.shop.namespace}", f"services/{SERVICE}")
        found = (check for check in report.checks if any(word in check.name for word in ours))
        return {check.name: check.status for check in found if check.status != "healthy"}

    def ask(self, statement: str) -> list[str]:
        """Return the lines of the answer to a client in the cluster."""
        return self._run('ask "$STATEMENT"', STATEMENT=statement)

    def complaint(self, **environment: str) -> str:
        """Return the error of a client with other settings."""
        return "\n".join(self._run("! ask 'SELECT 1' 2>&1", **environment))

    def log_in(self) -> None:
        """Wait until a client with the current password is accepted."""
        self._run("until ask 'SELECT 1'; do sleep 0.5; done")

    def _run(self, script: str, **environment: str) -> list[str]:
        # The policies apply to a new pod shortly after its start. Its destination is not restricted yet.
        template = self._client(f"until PGSSLMODE=disable pg_isready -q; do sleep 0.2; done; {script}", **environment)
        manifest = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": f"ask-{time.monotonic_ns()}", "namespace": self.shop.namespace},
            "spec": {"backoffLimit": 0, "template": template},
        }
        ended = run_job(self.shop.client, self.discovery, manifest, JOB_S)
        assert ended.succeeded, f"{ended.reason}\n{ended.log}"
        return list(ended.log)

    @contextlib.contextmanager
    def writing(self) -> Iterator[Callable[[], Written]]:
        """Let a client write rows until the block ends; yields the record of committed ones."""
        pods, name = self.shop.path("pods", "").rstrip("/"), f"writer-{time.monotonic_ns()}"
        pod = self._client(WRITER)
        body = {**pod, "metadata": {**pod["metadata"], "name": name}}

        def written() -> Written:
            log = str(self.shop.client.request("GET", f"{pods}/{name}/log", accept=TEXT))
            return Written({int(number): float(at_s) for number, at_s in _COMMITTED.findall(log)})

        def is_under_way() -> bool:
            with contextlib.suppress(ApiError):
                return len(written().commits) > 20
            return False

        self.shop.client.request("POST", pods, body=body)
        try:
            until(is_under_way, "the writer writes", JOB_S)
            yield written
        finally:
            self.kill_pod(name)

    def _client(self, script: str, **environment: str) -> Fields:
        """Return a pod of the database's image that represents a permitted client and connects to an address."""
        host, port = self.rendered["addresses"][SERVICE]["postgresql"].split(":")
        (image,) = (one["spec"]["imageName"] for one in self.manifests if one["kind"] == "Cluster")
        password = {"secretKeyRef": {"name": f"{SERVICE}-superuser", "key": "password"}}
        template = workloads(self.rendered)[CALLER]["spec"]["template"]
        (caller,) = template["spec"]["containers"]
        verifies = {entry["name"]: entry["value"] for entry in caller["env"] if entry["name"].startswith("PGSSL")}
        given = {"PGHOST": host, "PGPORT": port, "PGUSER": "postgres", **verifies, **environment}
        variables = [{"name": name, "value": value} for name, value in given.items()]
        confined = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True}
        container = {
            "name": "main",
            "image": image,
            "command": ["bash", "-c", f'ask() {{ {PSQL} -c "$1"; }}; {script}'],
            "env": [*variables, {"name": "PGPASSWORD", "valueFrom": password}],
            "securityContext": {**confined, "capabilities": {"drop": ["ALL"]}},
            "resources": {"requests": {"cpu": "20m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}},
            "volumeMounts": [
                {"name": "tmp", "mountPath": "/tmp"},
                *(mount for mount in caller["volumeMounts"] if mount["name"] == DATABASE_CA_CONFIG),
            ],
        }
        spec = {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "securityContext": {"runAsNonRoot": True, "runAsUser": 26, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [container],
            "volumes": [
                {"name": "tmp", "emptyDir": {}},
                *(volume for volume in template["spec"]["volumes"] if volume["name"] == DATABASE_CA_CONFIG),
            ],
        }
        return {"metadata": {"labels": dict(template["metadata"]["labels"])}, "spec": spec}


def _is_true(obj: Fields, condition: str) -> bool:
    found = {one["type"]: one["status"] for one in obj.get("status", {}).get("conditions", ())}
    return found.get(condition) == "True"
