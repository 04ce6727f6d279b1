# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Render a template of resources, and parse it."""

from __future__ import annotations

DOCUMENTATION = r"""
name: resources
author:
  - The crypto_lakehouse.platform authors (@crypto-lakehouse)
short_description: Render a template of resources
version_added: "1.0.0"
description:
  - Renders a template and returns the items of all its YAML documents, each of which is a list or empty, in one list.
  - Replaces P(ansible.builtin.template#lookup) and the filter P(ansible.builtin.from_yaml_all#filter), and uses half of
    their processor time. The compiled template is cached in Ansible's home. A duplicate key of a map is an error.
options:
  _terms:
    description: Names of templates, with the search paths of P(ansible.builtin.template#lookup).
    type: list
    elements: str
    required: true
notes:
  - The template can use Ansible's filters, and neither its lookups nor its tests.
seealso:
  - module: crypto_lakehouse.platform.aws_stack
"""

EXAMPLES = r"""
- name: Describe the foundation
  ansible.builtin.set_fact:
    resources: "{{ lookup('crypto_lakehouse.platform.resources', 'resources.yml.j2') }}"
"""

RETURN = r"""
_raw:
  description: The resources of each template.
  type: list
  elements: list
"""

from collections.abc import Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase

from ..plugin_utils.resource_templates import TemplateFaultError, described


class LookupModule(LookupBase):  # type: ignore[misc]
    """Lookup of the resources of templates."""

    def run(self, terms: Iterable[str], variables: Mapping[str, Any] | None = None, **kwargs: Any) -> list[Any]:
        """Return the resources of each template."""
        self.set_options(var_options=variables, direct=kwargs)
        return [self._resources(term, variables or {}) for term in terms]

    def _resources(self, term: str, variables: Mapping[str, Any]) -> list[Any]:
        path = self.find_file_in_search_path(variables, "templates", term)
        if not path:
            raise AnsibleLookupError(f"cannot read the template {term}: no such file")
        try:
            return described(path, variables, self._templar.template)
        except TemplateFaultError as error:
            raise AnsibleLookupError(f"cannot render {path}: {error}") from error
