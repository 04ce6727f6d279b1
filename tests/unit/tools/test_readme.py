# SPDX-License-Identifier: GPL-3.0-or-later
"""A run accepts the inventory of the README, and its web pages are those of the catalogue."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.catalogue.load import load
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.inventory import variables as inventory

ROOT = Path(__file__).resolve().parents[3]
README = (ROOT / "README.md").read_text("utf-8")
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "roles").glob("*/README.md"))]
PAGE = re.compile(r"^\| [^|]* \| `127\.0\.0\.1:(\d+)/[^|]*\| `(\w+)` \| `(\w+)` \|$", re.MULTILINE)
PASSWORDS = {
    "grafana": "grafana_admin_password",
    "orchestrator": "orchestrator_password",
    "prometheus": "prometheus_password",
}


def example() -> dict[str, Any]:
    (block,) = re.findall(r"```yaml\n(all:\n.*?)```", README, re.DOTALL)
    found: dict[str, Any] = yaml.safe_load(block)["all"]
    return found


def test_the_inventory_names_both_groups_and_variables_that_are_known() -> None:
    found = example()
    assert set(found["children"]) == {"lakehouse_controller", "lakehouse_hosts"}
    assert all(group["hosts"] for group in found["children"].values())
    settings, problems = inventory.check(found["vars"])
    assert problems == []
    assert settings["lakehouse_target"] == "host"


def test_a_host_that_is_reached_locally_is_given_the_interpreter_of_ansible() -> None:
    hosts: dict[str, dict[str, str]] = {}
    for group in example()["children"].values():
        for name, variables in group["hosts"].items():
            hosts.setdefault(name, {}).update(variables or {})
    local = [variables for variables in hosts.values() if variables.get("ansible_connection") == "local"]
    assert local
    assert all(each["ansible_python_interpreter"] == "{{ ansible_playbook_python }}" for each in local)


def test_every_web_page_of_a_host_is_listed_with_its_account_and_no_other() -> None:
    described = yaml.safe_load((ROOT / "roles/catalogue/vars/main.yml").read_text("utf-8"))
    services, secrets = described["catalogue_services"], described["catalogue_secrets"]
    catalogue, problems = load(services, secrets, "host", "development")
    assert problems == []
    pages = {
        (str(port.port), "lakehouse", PASSWORDS[name])
        for name, service in catalogue.services.items()
        for port in service.ports.values()
        if port.web_page
    }
    assert set(PAGE.findall(README)) == pages
    assert {password for _port, _user, password in pages} <= set(secrets)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_document_expects_a_program_that_a_machine_may_not_have(path: Path) -> None:
    assert not re.search(r"^ {4}.*\bsudo\b", path.read_text("utf-8"), re.MULTILINE)
