# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Manage the secrets of a platform in its cluster, or in Secrets Manager with a copy in the cluster."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kube_secrets
short_description: Manage the secrets of a platform in its cluster
version_added: "1.0.0"
description:
  - Generates missing values in a Secret of the cluster once, with a cryptographic random source. Other values are
    given in the inventory, or are bcrypt hashes of other secrets.
  - Undescribed values are kept. The Secret does not belong to a set of applied objects and is never pruned.
  - With O(keeper), the store is Secrets Manager and the Secret is its copy. A recreated cluster therefore uses the same
    secrets.
  - Concurrent runs agree on one value. The next run completes a run that was killed.
  - A Secret that is damaged or belongs to another owner is an error and is not changed.
author:
  - The crypto_lakehouse.platform authors (@crypto-lakehouse)
extends_documentation_fragment:
  - crypto_lakehouse.platform.kubernetes
  - crypto_lakehouse.platform.secrets
options:
  name:
    description: Name of the Secret.
    type: str
    default: lakehouse-secrets
  namespace:
    description: Existing namespace of the Secret.
    type: str
    required: true
  keeper:
    description: Secrets Manager as the store, with the AWS options of the connection.
    type: dict
    suboptions:
      secret_id:
        description: Name or ARN of the existing secret that contains all values. It may be empty.
        type: str
        required: true
      managed:
        description: Secrets whose values are in other secrets of Secrets Manager. They take precedence over O(values).
        type: list
        elements: dict
        default: []
        suboptions:
          name:
            description: Name of the secret in O(secrets).
            type: str
            required: true
          secret_id:
            description: Name or ARN of the secret in Secrets Manager.
            type: str
            required: true
          key:
            description: Key in a secret that is a JSON document.
            type: str
  kubernetes_version:
    description: Version of a planned cluster, for check mode only. The cluster is not read, and all secrets are new.
    type: str
attributes:
  check_mode:
    support: full
    description: Returns the same changes without making them, even if the namespace or cluster does not exist yet.
  diff_mode:
    support: full
    description: Shows names only and never values.
requirements:
  - bcrypt, for secrets of kind V(bcrypt), except in check mode
  - cryptography, for secrets of kind V(private_key), V(authority) or V(certificate)
seealso:
  - module: crypto_lakehouse.platform.k8s_apply
  - module: crypto_lakehouse.platform.secret_store
"""

EXAMPLES = r"""
- name: Manage the secrets of the services
  crypto_lakehouse.platform.kube_secrets:
    namespace: crypto-lakehouse
    secrets:
      - {name: database_superuser_password, kind: password}
      - {name: orchestrator_password, kind: password}
      - {name: orchestrator_password_bcrypt, kind: bcrypt, of: orchestrator_password}
      - {name: alertmanager_slack_webhook_url, kind: given, optional: true}
    values:
      alertmanager_slack_webhook_url: "{{ vault_slack_webhook_url | default('') }}"
  register: secrets

- name: Manage the secrets on EKS, with Secrets Manager as the store
  crypto_lakehouse.platform.kube_secrets:
    eks_cluster: crypto-lakehouse-production
    region: eu-central-1
    namespace: crypto-lakehouse
    secrets: "{{ rendered.secrets }}"
    keeper:
      secret_id: crypto-lakehouse-service-secrets-production
      managed:
        - {name: database_superuser_password, secret_id: "{{ database.master_user_secret_arn }}", key: password}
"""

RETURN = r"""
generated:
  description: Names of secrets that were generated for the first time.
  returned: always
  type: list
  elements: str
  sample: [database_superuser_password]
rotated:
  description: Names of secrets that were generated again.
  returned: always
  type: list
  elements: str
given:
  description: Names of secrets whose value in the inventory is new or changed.
  returned: always
  type: list
  elements: str
derived:
  description: Names of hashes that were created or replaced.
  returned: always
  type: list
  elements: str
removed:
  description: Names of secrets whose value was removed from the inventory.
  returned: always
  type: list
  elements: str
missing:
  description: Names of optional secrets that are not in the inventory.
  returned: always
  type: list
  elements: str
copied:
  description: Names of secrets of the O(keeper) that were missing in the cluster or had another value there.
  returned: always
  type: list
  elements: str
changed_secrets:
  description: Names of all secrets whose value changed, in the O(keeper) or in the cluster only.
  returned: always
  type: list
  elements: str
versions:
  description: Version by name of each secret. It changes with the value and does not reveal it.
  returned: always
  type: dict
  sample: {database_superuser_password: "1"}
"""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.cluster.access import (
    CLUSTER_EXCLUSIVE,
    CLUSTER_SPEC,
    CLUSTER_TOGETHER,
    cluster_connection,
    secrets_in,
)
from ..module_utils.cluster.secrets import Kept, SecretBackend, Wish, keep
from ..module_utils.engine.errors import EngineError
from ..module_utils.kube.client.errors import KubeError
from ..module_utils.secrets.options import SECRETS_SPEC, specs_in
from ..module_utils.secrets.values import SecretError

MANAGED_OPTIONS = {
    "name": {"type": "str", "required": True},
    "secret_id": {"type": "str", "required": True, "no_log": False},
    "key": {"type": "str", "no_log": False},
}
KEEPER_OPTIONS = {
    "secret_id": {"type": "str", "required": True, "no_log": False},
    "managed": {"type": "list", "elements": "dict", "default": [], "options": MANAGED_OPTIONS},
}
ARGUMENT_SPEC = {
    **CLUSTER_SPEC,
    "name": {"type": "str", "default": "lakehouse-secrets"},
    "namespace": {"type": "str", "required": True},
    **SECRETS_SPEC,
    "keeper": {"type": "dict", "options": KEEPER_OPTIONS},
    "kubernetes_version": {"type": "str"},
}


def main() -> None:
    module = AnsibleModule(
        ARGUMENT_SPEC,
        supports_check_mode=True,
        required_together=CLUSTER_TOGETHER,
        mutually_exclusive=CLUSTER_EXCLUSIVE,
    )
    module.no_log_values.update(secrets_in(module.params))
    result = outcome(module.params, module.no_log_values.update, check_mode=module.check_mode)
    if result.get("failed"):
        module.fail_json(**result)
    module.exit_json(**result)


def outcome(parameters: dict[str, Any], hide: Callable[[Iterable[str]], None], *, check_mode: bool) -> dict[str, Any]:
    """Return the result of the module; a failed result has `failed` and `msg`. `hide` receives the secret values."""
    if parameters["kubernetes_version"] and not check_mode:
        message = "kubernetes_version: secrets of a cluster that is only planned can only be planned"
        return {"failed": True, "msg": message}
    try:
        kept = run(parameters, check_mode=check_mode)
    except (KubeError, SecretError, EngineError) as error:
        return {"failed": True, "msg": str(error)}
    hide(kept.secret_values)
    return {
        "changed": kept.changed,
        "changed_secrets": kept.changed_names,
        "copied": kept.copied,
        "versions": {name: str(version) for name, version in kept.versions.items()},
        "diff": kept.diff,
        **{word: list(names) for word, names in dataclasses.asdict(kept.changes).items()},
    }


def run(options: dict[str, Any], *, check_mode: bool) -> Kept:
    """Read and update the secrets. Raises KubeError, SecretError or EngineError."""
    from ..module_utils.kube.client.client import Client

    keeper, managed = _keeper(options)
    wish = Wish(
        name=options["name"],
        namespace=options["namespace"],
        specs=specs_in(options),
        values={**options["values"], **managed},
        rotate=options["rotate"],
        check_mode=check_mode,
    )
    if options["kubernetes_version"]:
        return keep(None, wish, keeper)
    with Client(cluster_connection(options)) as client:
        return keep(client, wish, keeper)


def _keeper(options: dict[str, Any]) -> tuple[SecretBackend | None, dict[str, str]]:
    """Return the store outside of the cluster, and the values of other secrets in it."""
    if not options["keeper"]:
        return None, {}
    from ..module_utils.aws import session as aws
    from ..module_utils.aws.arguments import verified_connection
    from ..module_utils.aws.secret_backend import SecretsManagerBackend, managed_values

    session = aws.Session(verified_connection(options))
    wanted = options["keeper"]
    return SecretsManagerBackend(session, wanted["secret_id"]), managed_values(session, wanted["managed"])


if __name__ == "__main__":
    main()
