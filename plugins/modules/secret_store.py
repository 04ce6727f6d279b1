# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep the secret store of a host: generate, take from the inventory, derive, rotate."""

from __future__ import annotations

DOCUMENTATION = r"""
module: secret_store
short_description: Keep the secrets of a platform on its host
version_added: "1.0.0"
description:
  - Creates what is missing in the secret store of a host, once, with a cryptographic random source.
    The controller never sees a generated value.
  - Takes values from the inventory, makes bcrypt hashes of other secrets, and writes files that hold one secret each.
  - Issues certificates of the platform's own authorities and renews them before they expire.
  - The store is one file that only its owner can read.
    It is replaced in one step, so that a run that is killed leaves the old or the new store, never a part.
  - A damaged store, or one of another user, is an error and is left as it is.
  - A value that was replaced is not kept. Former values in a store of an earlier version are removed.
author:
  - The crypto_lakehouse.platform authors (@crypto-lakehouse)
extends_documentation_fragment:
  - crypto_lakehouse.platform.secrets
options:
  path:
    description:
      - The store's file. Its folder, and every folder made for O(files), belongs to the running user alone.
    type: path
    required: true
  files:
    description: Files that hold the value of one secret and nothing else, in the store's folder or below.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: The file. It is removed when the secret is optional and not given.
        type: path
        required: true
      secret:
        description: The secret whose value it holds.
        type: str
        required: true
      service:
        description: The service that reads the file. Not used here; accepted as part of the renderer's result.
        type: str
  prune:
    description:
      - Whether to remove files that may hold former values from the store's folder. These are the files in its
        subfolders that O(files) does not list, and unfinished files of a run that was killed.
    type: bool
    default: false
attributes:
  check_mode:
    support: full
    description: Predicts the same changes without making them. Works on a host that has nothing yet.
  diff_mode:
    support: full
    description: Shows names only, never a value.
notes:
  - Making a bcrypt hash needs the Python package C(bcrypt) in the interpreter that runs the module, making a private
    key or a certificate C(cryptography). Check mode needs neither.
seealso:
  - module: crypto_lakehouse.platform.host_files
"""

EXAMPLES = r"""
- name: Keep the secrets of the database and of Prometheus
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

- name: Generate every secret anew that the inventory does not give
  crypto_lakehouse.platform.secret_store:
    path: /var/lib/crypto-lakehouse/secrets/store.json
    secrets: "{{ rendered.secrets }}"
    files: "{{ rendered.secret_files }}"
    rotate: true
    prune: true
"""

RETURN = r"""
generated:
  description: Names of the secrets that were generated for the first time.
  returned: always
  type: list
  elements: str
  sample: [database_superuser_password]
rotated:
  description: Names of the secrets that were generated anew.
  returned: always
  type: list
  elements: str
  sample: []
given:
  description: Names of the secrets whose value from the inventory is new or has changed.
  returned: always
  type: list
  elements: str
  sample: []
derived:
  description: Names of the hashes and certificates that were made or replaced.
  returned: always
  type: list
  elements: str
  sample: [prometheus_password_bcrypt]
removed:
  description: Names of the secrets that the inventory no longer gives.
  returned: always
  type: list
  elements: str
  sample: []
missing:
  description: Names of the optional secrets that the inventory does not give.
  returned: always
  type: list
  elements: str
  sample: [alertmanager_slack_webhook_url]
changed_secrets:
  description:
    - Names of all secrets whose value changed.
    - Pass them to M(crypto_lakehouse.platform.host_files), so that its check mode knows them.
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
  description: RV(changed_paths), and the files and folders of which only the mode was repaired.
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
