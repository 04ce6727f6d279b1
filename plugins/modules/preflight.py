# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight
short_description: Check inventory and machine before anything changes
version_added: "1.0.0"
description:
  - Checks every variable that begins with C(lakehouse_), renders the description of the services, and asks the machine
    what would stop the run there. All problems are one message, each with its variable and the remedy.
  - Returns what the roles that follow are given. No value of a secret is in it.
  - An action plugin; a machine is examined by M(crypto_lakehouse.platform.host_preflight), for which O(application),
    O(host), O(packages) and O(postgresql_major) are needed.
author:
  - The crypto_lakehouse.platform authors (@crypto-lakehouse)
options:
  verb:
    description: What the run is about to do. V(health), V(verify), V(backup), V(restore) and V(destroy) need no
      free port.
    type: str
    choices: [deploy, plan, drift, upgrade, scale, health, verify, backup, restore, destroy]
    required: true
  source:
    description:
      - Folder of the catalogue, on the controller.
      - C(vars/main.yml) in it describes the services of the platform, the secrets that they may name, and settings, as
        C(catalogue_services), C(catalogue_secrets) and C(catalogue_settings).
    type: path
    required: true
  application:
    description: Folder of the application's source, on the controller.
    type: path
  host:
    description: Folder of the lock and the scripts that install a host's software, on the controller.
    type: path
  packages:
    description: Packages of the distribution that the services come from.
    type: list
    elements: str
  postgresql_major:
    description: Major version of PostgreSQL whose data can be read.
    type: int
  cluster:
    description:
      - Given for a run on a Kubernetes cluster, which is then examined by M(crypto_lakehouse.platform.kube_preflight)
        instead of a machine. C(connection), C(settings) and C(kubernetes_version) are what the play knows of it.
    type: dict
attributes:
  check_mode:
    support: full
    description: Changes nothing in either mode.
  diff_mode:
    support: none
    description: Changes nothing that could be shown.
seealso:
  - module: crypto_lakehouse.platform.host_preflight
"""

EXAMPLES = r"""
- name: Find everything that would stop a deployment
  ansible.builtin.import_role:
    name: crypto_lakehouse.platform.preflight
"""

RETURN = r"""
problems:
  description: Everything that stops the run, each with C(variable), C(message) and C(remedy).
  returned: failure
  type: list
  elements: dict
settings:
  description: The variables of the inventory with their defaults, secrets left out.
  returned: success
  type: dict
facts:
  description: What M(crypto_lakehouse.platform.host_preflight) says of the machine.
  returned: success
  type: dict
home:
  description: Folder that everything is kept in.
  returned: success
  type: str
  sample: /var/lib/crypto-lakehouse
become:
  description: Whether tasks have to become the service user.
  returned: success
  type: bool
started:
  description: When the run began to look at the machine, in seconds since 1970.
  returned: success
  type: float
checks_only:
  description: Whether the run is to change nothing, by check mode or by its verb.
  returned: success
  type: bool
marker:
  description: What the deployment will say of itself in its folder.
  returned: success
  type: dict
deployed:
  description: Whether an earlier run deployed a lakehouse there.
  returned: success
  type: bool
deployed_version:
  description: The version of the collection that did.
  returned: success
  type: str
description:
  description:
    - Digest of everything that the services are described by, software included and values of secrets left out.
    - Two runs with the same digest describe the same lakehouse.
  returned: success
  type: str
  sample: 3f0c6d1b9a7e4c52
version:
  description: The version of this collection.
  returned: success
  type: str
  sample: 1.0.0
software:
  description: Digest, folder, files, packages and interpreter of the software, and whether it is installed.
  returned: success
  type: dict
installed:
  description: Folder and jobs of the software that runs until it is upgraded, and whether the upgrade replaces it.
  returned: success of the verb V(upgrade) on a machine
  type: dict
client_environment:
  description: Variables of proxies and certificate authorities for downloads and services.
  returned: success
  type: dict
addresses:
  description: Where each service that speaks HTTP is found on the machine.
  returned: success
  type: dict
  sample: {api: "http://127.0.0.1:8080"}
foundation_secrets:
  description: Names of the secrets that the foundation of a cloud takes, and no service.
  returned: success, on EKS and on clusters
  type: list
  elements: str
  sample: [api_keys, database_password, encryption_keys]
ingress_ports:
  description: Ports of the pods that an ingress load balancer outside of the cluster sends to.
  returned: success, on EKS and on clusters
  type: list
  elements: int
  sample: [3000, 8080]
wording:
  description: Options C(variables) and C(remedies) of M(crypto_lakehouse.platform.aws_stack).
  returned: success, on EKS
  type: dict
rendered:
  description: What P(crypto_lakehouse.platform.render_services#filter) returns for this machine.
  returned: success
  type: dict
"""
