# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Manage the secret store of a host: generate, set, derive and rotate secrets."""

from __future__ import annotations

DOCUMENTATION = r"""
module: secret_store
short_description: Manage the secrets of a platform on its host
version_added: "1.0.0"
description:
  - Generates missing values in the secret store of a host once, with a cryptographic random source. Generated values
    never reach the controller.
  - Stores values of the inventory, creates bcrypt hashes of other secrets, and writes files with one secret each.
  - Issues certificates of the platform's own authorities and renews them before they expire.
  - The store is one file that only its owner can read. It is replaced atomically, so that a killed run leaves either
    the old or the new store.
  - A damaged store, or a store of another user, is an error and is not changed.
  - Replaced values are not kept. Former values in a store of an earlier version are removed.
author:
  - The crypto_lakehouse.platform authors (@crypto-lakehouse)
extends_documentation_fragment:
  - crypto_lakehouse.platform.secrets
options:
  path:
    description:
      - File of the store. Only the running user can access its folder and the folders of O(files).
    type: path
    required: true
  files:
    description: Files that contain only the value of one secret, in or below the folder of the store.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Path of the file. The file is removed if the secret is optional and missing.
        type: path
        required: true
      secret:
        description: Name of the secret.
        type: str
        required: true
      service:
        description: Service that reads the file. Ignored; accepted as part of the renderer's result.
        type: str
  prune:
    description:
      - Whether to remove files that may contain former values from the folder of the store. These are files in its
        subfolders that are not in O(files), and unfinished files of a killed run.
    type: bool
    default: false
attributes:
  check_mode:
    support: full
    description: Returns the same changes without making them. Works on an empty host.
  diff_mode:
    support: full
    description: Shows names only and never values.
notes:
  - Secrets of kind V(bcrypt) require the Python package C(bcrypt) in the interpreter that runs the module. Private keys
    and certificates require C(cryptography). Check mode does not require them.
seealso:
  - module: crypto_lakehouse.platform.host_files
"""

EXAMPLES = r"""
- name: Manage the secrets of the database and of Prometheus
  crypto_lakehouse.platform.secret_store:
    path: /var/lib/crypto-lakehouse/secrets/store.json
    secrets:
      - {name: database_superuser_password, kind: password}
      - {name: prometheus_password, kind: password, length: 40}
      - {name: prometheus_password_bcrypt, kind: bcrypt, of: prometheus_password}
      - {name: alertmanager_slack_webhook_url, kind: given, optional: true}
    values:
      alertmanager_slack_webhook_url: "{{ vault_slack_webhook_url | default('') }}"
    files:
      - path: /var/lib/crypto-lakehouse/secrets/prometheus/prometheus_password
        secret: prometheus_password
  register: secrets

- name: Rotate all generated secrets
  crypto_lakehouse.platform.secret_store:
    path: /var/lib/crypto-lakehouse/secrets/store.json
    secrets: "{{ rendered.secrets }}"
    files: "{{ rendered.secret_files }}"
    rotate: true
    prune: true
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
  sample: []
given:
  description: Names of secrets whose value in the inventory is new or changed.
  returned: always
  type: list
  elements: str
  sample: []
derived:
  description: Names of hashes and certificates that were created or replaced.
  returned: always
  type: list
  elements: str
  sample: [prometheus_password_bcrypt]
removed:
  description: Names of secrets whose value was removed from the inventory.
  returned: always
  type: list
  elements: str
  sample: []
missing:
  description: Names of optional secrets that are not in the inventory.
  returned: always
  type: list
  elements: str
  sample: [alertmanager_slack_webhook_url]
changed_secrets:
  description:
    - Names of all secrets whose value changed.
    - Pass these to M(crypto_lakehouse.platform.host_files), for its check mode.
  returned: always
  type: list
  elements: str
  sample: [database_superuser_password, prometheus_password_bcrypt]
changed_paths:
  description: Files that were written or removed.
  returned: always
  type: list
  elements: str
  sample: [/var/lib/crypto-lakehouse/secrets/store.json]
touched_paths:
  description: RV(changed_paths), and files and folders whose mode only was repaired.
  returned: always
  type: list
  elements: str
  sample: [/var/lib/crypto-lakehouse/secrets/store.json]
"""

import dataclasses
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.host.errors import HostError, message_of
from ..module_utils.host.store_files import Converged, SecretFile, converge
from ..module_utils.secrets.options import SECRETS_SPEC, specs_in
from ..module_utils.secrets.values import SecretError

FILE_OPTIONS = {
    "path": {"type": "path", "required": True},
    "secret": {"type": "str", "required": True, "no_log": False},
    "service": {"type": "str"},
}
ARGUMENT_SPEC = {
    "path": {"type": "path", "required": True},
    **SECRETS_SPEC,
    "files": {"type": "list", "elements": "dict", "default": [], "options": FILE_OPTIONS},
    "prune": {"type": "bool", "default": False},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    try:
        converged = run(module.params, module.check_mode)
    except (HostError, SecretError, OSError) as error:
        module.fail_json(msg=message_of(error))
        return
    module.no_log_values.update(converged.secret_values)
    module.exit_json(
        changed=converged.changed,
        changed_secrets=converged.changes.names,
        changed_paths=converged.content_paths,
        touched_paths=converged.paths,
        diff=converged.diff,
        **{word: list(names) for word, names in dataclasses.asdict(converged.changes).items()},
    )


def run(options: dict[str, Any], check_mode: bool) -> Converged:
    return converge(
        Path(options["path"]),
        specs_in(options),
        options["values"],
        [SecretFile(Path(each["path"]), each["secret"]) for each in options["files"]],
        options["rotate"],
        check_mode,
        options["prune"],
    )


if __name__ == "__main__":
    main()
