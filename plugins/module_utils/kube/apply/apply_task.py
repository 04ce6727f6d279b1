# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the module `k8s_apply`, from its parameters to its result."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ..client.client import Client, look
from ..client.connection import Connection
from ..client.discovery import Discovery
from ..client.errors import ConfigError
from ..client.paths import core_path
from ..manifests.fill import Store, filled, has_placeholder, names
from ..manifests.manifests import Manifest, load
from ..manifests.mask import Hider, hidden_values, secret_values
from ..manifests.names import LABEL, SUBDOMAIN, check_names
from ..yaml.documents import Kept
from .apply import Apply
from .options import Options
from .planned import plan_for
from .remove import Remove
from .results import Outcome


class ApplyTask:
    """One run of the module.

    connect: opens the connection to the cluster. no_log: receives the values that logs must not contain. kept: large
    custom resource definitions that earlier runs parsed.

    Raises KubeError, whose text contains no secret.
    """

    def __init__(
        self,
        parameters: Mapping[str, Any],
        connect: Callable[[Mapping[str, Any]], Connection],
        no_log: Callable[[set[str]], object],
        *,
        check_mode: bool,
        with_diff: bool,
        kept: Kept | None = None,
    ) -> None:
        self._given, self._connect, self._no_log, self._with_diff = parameters, connect, no_log, with_diff
        self._kept = kept
        self._only_plans = check_mode or bool(parameters["kubernetes_version"])

    def run(self) -> dict[str, Any]:
        """Return the module's result, with `failed` and `msg` if some objects failed."""
        given = self._given
        if given["parallelism"] < 1:
            raise ConfigError(f"cannot use `parallelism`: {given['parallelism']} is less than 1; set it to 1 or more")
        texts = {option: str(given[option] or "") for option in ("namespace", "prune", "secrets_from")}
        rules = {"namespace": LABEL, "prune": SUBDOMAIN, "secrets_from": SUBDOMAIN}
        check_names({option: (texts[option], rule) for option, rule in rules.items()})
        manifests = load(given["manifests"], given["src"], self._kept)
        self._hider(manifests)
        if given["kubernetes_version"]:
            return self._planned(manifests)
        connection = self._connect(given)
        with Client(connection, pool_size=given["parallelism"] + 4) as client:
            discovery = Discovery(client)
            namespace = str(given["namespace"] or connection.namespace or "")
            store = self._store(client, manifests) if given["state"] == "present" else Store()
            ready = filled(manifests, store) if given["state"] == "present" else manifests
            # Secrets are registered before the first error of the server can quote one of them.
            hider = self._hider(ready, (store.values or {}).values())
            kind = Apply if given["state"] == "present" else Remove
            outcome = kind(client, discovery, self._options(namespace), hider).run(ready)
            warnings = [hider(text) for text in client.warnings]
            return self._result(outcome, warnings, client.calls)

    def _hider(self, manifests: Sequence[Manifest], others: Iterable[str] = ()) -> Hider:
        """Return a hider of the values of the Secrets, and of `others`.

        Placeholders are not secrets: messages name them.
        """
        known = secret_values(manifest.content for manifest in manifests)
        shown = "\n".join(str(manifest.identity) for manifest in manifests)
        hidden = hidden_values({*others, *(value for value in known if not has_placeholder(value))}, shown)
        self._no_log(hidden)
        return Hider(hidden)

    def _options(self, namespace: str) -> Options:
        given = self._given
        return Options(
            namespace=namespace,
            state=given["state"],
            only_plans=self._only_plans,
            field_manager=given["field_manager"],
            force_conflicts=given["force_conflicts"],
            adopted_managers=tuple(given["adopted_managers"]),
            create_namespace=given["create_namespace"],
            prune=str(given["prune"] or ""),
            prune_limit=given["prune_limit"],
            prune_data=given["prune_data"],
            wait=given["wait"],
            wait_timeout_s=float(given["wait_timeout"]),
            parallelism=given["parallelism"],
            replace=given["replace"],
            planned=tuple(load((), given["planned_src"], self._kept)) if self._only_plans else (),
        )

    def _store(self, client: Client, manifests: Sequence[Manifest]) -> Store:
        name, namespace = str(self._given["secrets_from"] or ""), str(self._given["namespace"] or "")
        if not name or not names(manifests):
            return Store(name and f"the Secret {namespace}/{name}")
        secret = look(client, core_path(namespace, "secrets", name))
        if secret is None and not self._only_plans:
            raise ConfigError(f"secrets_from: there is no Secret {namespace}/{name}; make it first")
        values = None if secret is None else texts_of(secret)
        return Store(f"the Secret {namespace}/{name}", values)

    def _planned(self, manifests: Sequence[Manifest]) -> dict[str, Any]:
        ready = filled(manifests, Store(str(self._given["secrets_from"] or ""), None))
        outcome = plan_for(self._given["kubernetes_version"], ready, self._options(str(self._given["namespace"] or "")))
        return self._result(outcome, [], 0)

    def _result(self, outcome: Outcome, warnings: Sequence[str], calls: int) -> dict[str, Any]:
        of_objects = [text for result in outcome.objects for text in result.warnings]
        result: dict[str, Any] = {
            "changed": outcome.changed,
            "plan": outcome.plan(),
            "plan_text": outcome.text,
            "summary": outcome.summary,
            "objects": [one.to_data() for one in outcome.objects],
            "notices": list(dict.fromkeys([*outcome.warnings, *of_objects, *warnings])),
            "calls": calls,
        }
        if self._with_diff:
            result["diff"] = outcome.diff(dump())
        if outcome.message:
            result |= {"failed": True, "msg": outcome.message}
        return result


def shown_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters for a result, without objects and credentials."""
    data = "(data)" if isinstance(parameters["kubeconfig"], Mapping) else parameters["kubeconfig"]
    return {**parameters, "manifests": f"({len(parameters['manifests'])} given)", "kubeconfig": data}


def texts_of(secret: Mapping[str, Any]) -> dict[str, str]:
    """Return the text entries of a Secret."""
    import base64
    import binascii

    found = {}
    for name, value in (secret.get("data") or {}).items():
        try:
            found[str(name)] = base64.b64decode(value, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            continue
    return found


def dump() -> Callable[[Any], str]:
    """Return a function that writes a state of an object for a difference."""
    import yaml

    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

    def write(state: Any) -> str:
        written: str = yaml.dump(
            state, Dumper=dumper, default_flow_style=False, sort_keys=True, allow_unicode=True, width=120
        )
        return written

    return write
