# SPDX-License-Identifier: GPL-3.0-or-later
"""The work pool and the deployments, created and updated through Prefect's REST API.

Prefect's own client takes seconds to import, too long for runs that change nothing.
"""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from crypto_lakehouse.bootstrap.ledger import RETRY_DELAY_S, Foreign, UnreachableError
from crypto_lakehouse.settings import Settings

if TYPE_CHECKING:
    import httpx

    from crypto_lakehouse.bootstrap.ledger import Ledger

WORK_POOL: Final = "lakehouse"
WORK_QUEUE: Final = "default"
"""Prefect creates it with the pool; it is the default queue of runs."""
FIRST: Final = 1
"""The priority of the queue whose runs start first in its pool."""
WORK_POOL_DESCRIPTION: Final = "Runs the lakehouse's flows as processes beside its worker."
MAX_CONCURRENT_RUNS: Final = 2
"""Each run is a Python process of some 250 MB."""

MODULE: Final = "crypto_lakehouse.flows.pipeline"
DEPLOYMENT: Final = "lakehouse"
SCHEDULE: Final = "20 * * * *"
"""Every hour, because an exchange publishes a day some hours after it ended."""

JOB_FIELDS: Final = ("command", "env", "labels", "name", "stream_output", "working_dir")
PLAIN_DEFAULTS: Final = {"stream_output": True}
"""The template of Prefect's process worker (3.8.8): the fields of a job, and the defaults that are not null."""

PAGE_ITEMS: Final = 200
"""The maximum page size of the API."""

LIMIT_OF_DEPLOYMENT: Final = "deployment:"
"""Prefix of the global limit that Prefect creates for the limit of one deployment, before the deployment's id."""

_STARTING: Final = (502, 503, 504)
_CONFLICT: Final = 409


@dataclass(frozen=True, slots=True)
class Deployment:
    """One flow's deployment; `schema` is Prefect's schema of the flow's signature, without additional parameters."""

    flow: str
    description: str
    schema: Mapping[str, Any]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    cron: str | None = None

    @property
    def path(self) -> str:
        """`FLOW/DEPLOYMENT`, as Prefect names a deployment."""
        return f"{self.flow}/{DEPLOYMENT}"


def _property(position: int, name: str, **schema: Any) -> dict[str, Any]:
    return {"position": position, "title": name, **schema}


def _schema(properties: Mapping[str, Any], required: Sequence[str]) -> dict[str, Any]:
    return {
        "title": "Parameters",
        "type": "object",
        "properties": dict(properties),
        "required": list(required),
        "definitions": {},
        # Prefect rejects a run with an unknown parameter, which would otherwise end as a crashed process.
        "additionalProperties": False,
    }


_MARKET: Final = {
    "symbol": _property(0, "symbol", type="string"),
    "interval": _property(1, "interval", type="string"),
}
_STEP: Final = _schema(
    {**_MARKET, "day": _property(2, "day", format="date", type="string")}, ["symbol", "interval", "day"]
)
_PIPELINE: Final = _schema(
    {
        **_MARKET,
        "day": _property(2, "day", anyOf=[{"format": "date", "type": "string"}, {"type": "null"}], default=None),
        "days": _property(3, "days", anyOf=[{"type": "integer"}, {"type": "null"}], default=None),
    },
    ["symbol", "interval"],
)

DEPLOYMENTS: Final = (
    Deployment(
        "pipeline",
        "Takes days of a market through bronze, silver and gold.",
        _PIPELINE,
        {"symbol": "BTCUSDT", "interval": "1h"},
        SCHEDULE,
    ),
    Deployment("ingest", "Brings one day of candles into the bronze tier.", _STEP),
    Deployment("clean", "Makes the silver candles of one day.", _STEP),
    Deployment("aggregate", "Computes the gold figures of one day.", _STEP),
)


class PrefectApi:
    """Prefect's REST API; an error status raises an error with the API's own message.

    A request without an answer is retried for `patience_s`: a starting server or a busy machine answers late.
    """

    def __init__(self, settings: Settings, timeout_s: float = 10.0, patience_s: float = 0.0) -> None:
        """Raise SettingsError when the API's address was not given."""
        import httpx

        user, _separator, password = (settings.secret("prefect_api_auth_string") or "").partition(":")
        self._patience_s = patience_s
        self._client = httpx.Client(
            base_url=settings.require("prefect_api_url").rstrip("/") + "/",
            auth=(user, password) if user else None,
            timeout=timeout_s,
            trust_env=False,
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def find(self, path: str) -> dict[str, Any] | None:
        """Return the object at `path`, None when it does not exist."""
        answer = self._send("GET", path)
        if answer.status_code == 404:
            return None
        return self._content(answer)

    def post(self, path: str, content: Mapping[str, Any]) -> dict[str, Any]:
        """Send a POST request, which creates or queries objects; return the answer.

        It may be sent twice: a call that creates an object needs a key in `content` that identifies it to Prefect.
        """
        return self._content(self._send("POST", path, content))

    def every(self, path: str, **content: Any) -> list[dict[str, Any]]:
        """Return every item of a paginated list; `path` ends with `filter`, `content` selects."""
        found: list[dict[str, Any]] = []
        while True:
            page: Any = self._content(self._send("POST", path, {**content, "offset": len(found), "limit": PAGE_ITEMS}))
            found += page
            if len(page) < PAGE_ITEMS:
                return found

    def patch(self, path: str, content: Mapping[str, Any]) -> dict[str, Any]:
        """Send a PATCH request; return the answer, which may be empty."""
        return self._content(self._send("PATCH", path, content))

    def _send(self, method: str, path: str, content: Mapping[str, Any] | None = None) -> httpx.Response:
        import httpx

        deadline = time.monotonic() + self._patience_s
        while True:
            try:
                answer = self._client.request(method, path, json=content)
                if answer.status_code in _STARTING:
                    raise ConnectionError(f"HTTP {answer.status_code}")
            except (httpx.TransportError, ConnectionError):
                if time.monotonic() >= deadline:
                    raise
                time.sleep(RETRY_DELAY_S)
            else:
                return answer

    @staticmethod
    def _content(answer: httpx.Response) -> dict[str, Any]:
        if not answer.is_success:
            raise PrefectError(
                f"{answer.request.method} {answer.request.url.path}: HTTP {answer.status_code}: {answer.text[:300]}",
                answer.status_code,
            )
        found: dict[str, Any] = answer.json() if answer.content else {}
        return found


class PrefectError(RuntimeError):
    """Prefect's API rejects a request. `status` is the HTTP status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def ensure(settings: Settings, ledger: Ledger) -> None:
    """Create or update the work pool and the deployments.

    Raises:
        SettingsError: when the API's address was not given.
        UnreachableError: when the API does not answer.
        PrefectError: when it rejects a request.
    """
    with _opened(settings, ledger) as api:
        _ensure_pool(api, ledger, api.find(f"work_pools/{WORK_POOL}"))
        for deployment in DEPLOYMENTS:
            _ensure_deployment(api, ledger, deployment)


@contextmanager
def _opened(settings: Settings, ledger: Ledger) -> Iterator[PrefectApi]:
    """Open the API for one part of a bootstrap run, which waits for answers."""
    import httpx

    with closing(PrefectApi(settings, patience_s=ledger.patience_s)) as api:
        try:
            yield api
        except (httpx.TransportError, ConnectionError) as error:
            raise UnreachableError("the orchestrator", error) from error


def _ensure_pool(api: PrefectApi, ledger: Ledger, pool: Mapping[str, Any] | None) -> None:
    wanted = {"description": WORK_POOL_DESCRIPTION, "is_paused": False, "concurrency_limit": MAX_CONCURRENT_RUNS}
    create = partial(_create_pool, api, {"name": WORK_POOL, "type": "process", **wanted})
    ledger.ensure(f"work pool {WORK_POOL}", pool is not None, create)
    if pool is not None:
        # The worker fills in an empty template; an edited one controls every run.
        wanted["base_job_template"] = plain_template(pool.get("base_job_template") or {})
        different = sorted(name for name, value in wanted.items() if (pool[name] or None) != (value or None))
        what = ": ".join([f"work pool {WORK_POOL}", *filter(None, [", ".join(different)])])
        ledger.ensure(what, not different, partial(api.patch, f"work_pools/{WORK_POOL}", wanted))
        _ensure_queue(api, ledger)


def _create_pool(api: PrefectApi, content: Mapping[str, Any]) -> None:
    try:
        api.post("work_pools/", content)
    except PrefectError as error:
        # An earlier request with a lost answer has created it.
        if error.status != _CONFLICT:
            raise


def _ensure_queue(api: PrefectApi, ledger: Ledger) -> None:
    """Resume the queue of the platform's runs: a paused one delays every run without an error.

    A queue with a higher priority has the same effect while its runs take every slot of the pool.
    """
    path = f"work_pools/{WORK_POOL}/queues/{WORK_QUEUE}"
    wanted = {"is_paused": False, "concurrency_limit": None, "priority": FIRST}
    queue = api.find(path) or {}
    different = sorted(name for name, value in wanted.items() if queue.get(name) != value)
    what = ": ".join([f"work queue {WORK_POOL}/{WORK_QUEUE}", *filter(None, [", ".join(different)])])
    ledger.ensure(what, not queue or not different, partial(api.patch, path, wanted))


def plain_template(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the template of Prefect's process worker for a work pool: every field comes from the deployment."""
    if not found:
        return {}
    variables = dict(found.get("variables") or {})
    variables["properties"] = {
        name: {**schema, **({"default": PLAIN_DEFAULTS.get(name)} if schema.get("default") is not None else {})}
        for name, schema in (variables.get("properties") or {}).items()
    }
    return {**found, "job_configuration": {name: f"{{{{ {name} }}}}" for name in JOB_FIELDS}, "variables": variables}


def report(settings: Settings, ledger: Ledger) -> None:
    """Record objects that users added: deployments, blocks, work pools and queues, limits, automations, variables.

    Nothing is removed.

    Raises:
        SettingsError: when the API's address was not given.
        UnreachableError: when the API does not answer.
        PrefectError: when it rejects a request.
    """
    with _opened(settings, ledger) as api:
        flows = {str(flow["id"]): str(flow["name"]) for flow in api.every("flows/filter")}
        ours = {deployment.path for deployment in DEPLOYMENTS}
        for each in api.every("deployments/filter"):
            path = f"{flows.get(str(each['flow_id']), '?')}/{each['name']}"
            if path not in ours:
                ledger.report(Foreign("deployment", path))
        for each in api.every("block_documents/filter"):
            ledger.report(Foreign("block", f"{each['block_type']['slug']}/{each['name']}"))
        _report_pools(api, ledger)
        for each in api.every("v2/concurrency_limits/filter"):
            # A deployment's own limit belongs to it; no other limit covers the platform's deployments, pool and tasks.
            if not str(each["name"]).startswith(LIMIT_OF_DEPLOYMENT):
                ledger.report(Foreign("concurrency-limit", str(each["name"]), f"limit {each['limit']}"))
        for kind in ("automation", "variable"):
            for each in api.every(f"{kind}s/filter"):
                ledger.report(Foreign(kind, str(each["name"])))


def _report_pools(api: PrefectApi, ledger: Ledger) -> None:
    """Record other pools, and other queues of the platform's pool."""
    names = [str(each["name"]) for each in api.every("work_pools/filter")]
    for name in names:
        if name != WORK_POOL:
            ledger.report(Foreign("work-pool", name))
    for queue in api.every(f"work_pools/{WORK_POOL}/queues/filter") if WORK_POOL in names else ():
        if queue["name"] != WORK_QUEUE:
            ledger.report(Foreign("work-queue", f"{WORK_POOL}/{queue['name']}", _told(queue)))


def _told(queue: Mapping[str, Any]) -> str:
    """Return the properties that delay or start runs of a queue, as text."""
    limit = queue.get("concurrency_limit")
    parts = [f"priority {queue['priority']}", "" if limit is None else f"limit {limit}"]
    return ", ".join(filter(None, [*parts, "paused" if queue.get("is_paused") else ""]))


def _ensure_deployment(api: PrefectApi, ledger: Ledger, deployment: Deployment) -> None:
    found = api.find(f"deployments/name/{deployment.path}")
    wanted = description(deployment)
    different = [] if found is None else sorted(name for name, value in wanted.items() if _shown(found, name) != value)
    what = ": ".join([f"deployment {deployment.path}", *filter(None, [", ".join(different)])])

    def apply() -> None:
        flow = api.post("flows/", {"name": deployment.flow})
        if found is not None and _has_shared_limit(found):
            # Prefect would delete the limit, which other deployments may share.
            api.patch(f"deployments/{found['id']}", {"global_concurrency_limit_id": None})
        # Prefect's create is an upsert by flow and name.
        api.post("deployments/", {"name": DEPLOYMENT, "flow_id": flow["id"], **wanted})

    ledger.ensure(what, found is not None and not different, apply)


def description(deployment: Deployment) -> dict[str, Any]:
    """Return the managed properties of a deployment in the API's form."""
    schedule = {"active": True, "schedule": {"cron": deployment.cron, "timezone": "UTC"}}
    return {
        "pull_steps": None,
        "path": None,
        "entrypoint": f"{MODULE}.{deployment.flow}",
        "description": deployment.description,
        "work_pool_name": WORK_POOL,
        "work_queue_name": WORK_QUEUE,
        "parameters": dict(deployment.parameters),
        "parameter_openapi_schema": dict(deployment.schema),
        "enforce_parameter_schema": True,
        "paused": False,
        "concurrency_limit": None,
        "schedules": [schedule] if deployment.cron else [],
        "tags": ["lakehouse"],
        # By default Prefect prepares each run in another process, whose start takes additional time.
        "job_variables": {"command": f"{shlex.quote(sys.executable)} -m prefect.engine"},
    }


def _has_shared_limit(found: Mapping[str, Any]) -> bool:
    limit = found.get("global_concurrency_limit")
    return limit is not None and limit["name"] != f"{LIMIT_OF_DEPLOYMENT}{found['id']}"


def _shown(found: Mapping[str, Any], name: str) -> Any:
    """Return an observed property of a deployment, without values that the API adds."""
    if name == "concurrency_limit":
        # The API accepts a number here and returns none: the limit is a separate object.
        return found.get("global_concurrency_limit")
    if name in ("pull_steps", "path"):
        return found.get(name) or None
    if name != "schedules":
        return found.get(name)
    return [
        {"active": each["active"], "schedule": {key: each["schedule"].get(key) for key in ("cron", "timezone")}}
        for each in found["schedules"]
    ]


def main(argv: Sequence[str]) -> int:
    """Run `lakehouse deployments`: the orchestrator's part of `lakehouse bootstrap`."""
    from crypto_lakehouse.bootstrap import main as bootstrap

    return bootstrap(["--phase", "orchestrator", *argv])
