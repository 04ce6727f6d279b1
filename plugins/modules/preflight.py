# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight
short_description: Check inventory and machine before the first change
version_added: "1.0.0"
description:
  - Checks all variables that begin with C(lakehouse_), renders the description of the services, and checks the machine
    for problems that would stop the run. One message lists all problems, each with its variable and remedy.
  - Returns the arguments of the following roles, without values of secrets.
  - This is an action plugin. M(crypto_lakehouse.platform.host_preflight) checks a machine, which requires
    O(application), O(host), O(packages) and O(postgresql_major).
author:
  - The crypto_lakehouse.platform authors (@crypto-lakehouse)
options:
  verb:
    description: Operation of the run. V(health), V(verify), V(backup), V(restore) and V(destroy) do not require free
      ports.
    type: str
    choices: [deploy, plan, drift, upgrade, scale, health, verify, backup, restore, destroy]
    required: true
  source:
    description:
      - Folder of the catalogue on the controller.
      - Its C(vars/main.yml) describes the services of the platform, their secrets, and settings, as
        C(catalogue_services), C(catalogue_secrets) and C(catalogue_settings).
    type: path
    required: true
  application:
    description: Folder of the application's source on the controller.
    type: path
  host:
    description: Folder on the controller with the lock file and the scripts that install a host's software.
    type: path
  packages:
    description: Packages of the distribution that contain services.
    type: list
    elements: str
  postgresql_major:
    description: Major version of PostgreSQL.
    type: int
  cluster:
    description:
      - Kubernetes cluster of the run, which M(crypto_lakehouse.platform.kube_preflight) checks instead of a machine.
      - C(connection), C(settings) and C(kubernetes_version) are the values of the play. C(stack) contains the outputs
        of an EKS cluster, which determine them.
    type: dict
attributes:
  check_mode:
    support: full
    description: The action changes nothing.
  diff_mode:
    support: none
    description: The action changes nothing.
seealso:
  - module: crypto_lakehouse.platform.host_preflight
"""

EXAMPLES = r"""
- name: Find problems that would stop a deployment
  ansible.builtin.import_role:
    name: crypto_lakehouse.platform.preflight
"""

RETURN = r"""
problems:
  description: Problems that stop the run, each with C(variable), C(message) and C(remedy).
  returned: failure
  type: list
  elements: dict
settings:
  description: Variables of the inventory with their defaults, without secrets.
  returned: success
  type: dict
facts:
  description: Facts of the machine, as returned by M(crypto_lakehouse.platform.host_preflight).
  returned: success
  type: dict
home:
  description: Folder of the lakehouse.
  returned: success
  type: str
  sample: /var/lib/crypto-lakehouse
become:
  description: Whether tasks must become the service user.
  returned: success
  type: bool
started:
  description: Start time of the checks in seconds since 1970.
  returned: success
  type: float
checks_only:
  description: Whether the run must not change anything, because of check mode or its operation.
  returned: success
  type: bool
marker:
  description: Marker that the deployment will write to its folder.
  returned: success
  type: dict
deployed:
  description: Whether an earlier run deployed the lakehouse.
  returned: success
  type: bool
deployed_version:
  description: Version of the collection that deployed the lakehouse.
  returned: success
  type: str
description:
  description:
    - Digest of the description of the services, including the software and excluding values of secrets.
    - Runs with the same digest describe the same lakehouse.
  returned: success
  type: str
  sample: 3f0c6d1b9a7e4c52
version:
  description: Version of this collection.
  returned: success
  type: str
  sample: 1.0.0
software:
  description: Digest, folder, files, packages, interpreter and installation state of the software.
  returned: success
  type: dict
installed:
  description: Folder and jobs of the software that is running before the upgrade, and whether the upgrade replaces it.
  returned: success of the verb V(upgrade) on a machine
  type: dict
charts:
  description: Source of each chart by its name, as an option of the role that installs it.
  returned: for a cluster
  type: dict
helm:
  description: Program helm and its username, as an option of roles. The play adds the password.
  returned: for a cluster
  type: dict
images:
  description: Registry and pull secrets of images, as an option of roles.
  returned: for a cluster
  type: dict
aws_connection:
  description: Connection options of modules for AWS.
  returned: on target C(eks)
  type: dict
client_environment:
  description: Variables of proxies and certificate authorities for downloads and services.
  returned: success
  type: dict
addresses:
  description: Address of each HTTP service on the machine.
  returned: success
  type: dict
  sample: {api: "http://127.0.0.1:8080"}
foundation_secrets:
  description: Names of secrets that only the foundation of a cloud uses.
  returned: success, on EKS and on clusters
  type: list
  elements: str
  sample: [api_keys, database_password, encryption_keys]
ingress_ports:
  description: Ports of pods to which an ingress load balancer outside of the cluster sends requests.
  returned: success, on EKS and on clusters
  type: list
  elements: int
  sample: [3000, 8080]
wording:
  description: Options C(variables) and C(remedies) of M(crypto_lakehouse.platform.aws_stack).
  returned: success, on EKS
  type: dict
rendered:
  description: Result of P(crypto_lakehouse.platform.render_services#filter) for this machine.
  returned: success
  type: dict
"""
