# SPDX-License-Identifier: GPL-3.0-or-later
"""Render the AWS resources of an inventory as the playbooks do, without a run of Ansible."""

from __future__ import annotations

import atexit
import functools
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.partitions import service_principals
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.registry import make_kinds
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.session import Connection, Session
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.stack import (
    StackDescription,
    bounded,
    parse,
    tagged,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.planning import (
    Options,
    Proposal,
    make_plan,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.resource import Resource, Stack
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.value import Secret
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.world import Description, World
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.inventory import variables as inventory
from ansible_collections.crypto_lakehouse.platform.plugins.plugin_utils.cluster_preflight import foundation_secrets
from ansible_collections.crypto_lakehouse.platform.plugins.plugin_utils.ingress_ports import (
    described_services,
    ingress_ports,
)

ROOT = Path(__file__).resolve().parents[3]
ENVIRONMENTS = ("development", "staging", "production")
ACCOUNT, REGION = "111122223333", "eu-central-1"


def stack_attributes(region: str, partition: str, dns_suffix: str, region_suffix: str = "") -> dict[str, Any]:
    """Return the values of `${stack.X}` references in a region."""
    return {
        "account_id": ACCOUNT,
        "region": region,
        "partition": partition,
        "dns_suffix": dns_suffix,
        "availability_zones": [f"{region}{letter}" for letter in "abcdef"],
        "service_principals": service_principals(region, dns_suffix),
        "region_suffix": region_suffix,
    }


ATTRIBUTES = stack_attributes(REGION, "aws", "amazonaws.com")


def settings(environment: str, **given: Any) -> dict[str, Any]:
    """Return the settings that the preflight derives from an inventory of the repository."""
    values = yaml.safe_load((ROOT / "inventories" / environment / "group_vars" / "all.yml").read_text("utf-8"))
    found, problems = inventory.check({**values, "lakehouse_aws_region": REGION, **given})
    assert problems == []
    return found


@dataclass(frozen=True)
class Blueprint:
    """The resources of one environment, by address."""

    environment: str
    resources: Mapping[str, Resource]
    secrets: tuple[str, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=lambda: ATTRIBUTES)

    def of_kind(self, kind: str) -> dict[str, Mapping[str, Any]]:
        """Return the properties of all resources of a kind, by name."""
        return {item.name: item.properties for item in self.resources.values() if item.kind == kind}

    def __getitem__(self, address: str) -> Mapping[str, Any]:
        return self.resources[address].properties

    def named(self, kind: str) -> set[str]:
        """Return the AWS names of the resources of a kind."""
        words = ("name", "alias", "identifier")
        return {str(item[word]) for item in self.of_kind(kind).values() for word in words if word in item}

    def proposal(self) -> Proposal:
        """Return the plan for an empty account."""
        names = {item.kind for item in self.resources.values()}
        stack = Stack("crypto-lakehouse", self.environment, "0.0.0", self.attributes)
        values = {name: Secret.of(f"value of {name}", stack.salt) for name in self.secrets}
        kinds = make_kinds(Session(Connection(region=self.attributes["region"])), names)
        description = Description.of(stack, kinds, self.resources.values(), values)
        return make_plan(description, World({}), Options())

    def resolved(self) -> dict[str, Mapping[str, Any]]:
        """Return the properties with known values of the account filled in; references to resources stay."""
        text = json.dumps({address: dict(item.properties) for address, item in self.resources.items()})
        for name, value in self.attributes.items():
            if isinstance(value, str):
                text = text.replace(f"${{stack.{name}}}", value)
        found: dict[str, Mapping[str, Any]] = json.loads(text)
        return found


@functools.cache
def _describer() -> subprocess.Popen[str]:
    """Start the process that renders descriptions for all tests. It ends with its standard input."""
    program = [sys.executable, str(Path(__file__).with_name("describe.py"))]
    process = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    atexit.register(process.communicate)
    return process


@functools.cache
def _catalogue() -> tuple[Any, Any]:
    """Return the description of the platform: its services and its secrets."""
    found = yaml.safe_load((ROOT / "roles" / "catalogue" / "vars" / "main.yml").read_text("utf-8"))
    return found["catalogue_services"], found["catalogue_secrets"]


@functools.cache
def _described(environment: str, given: str) -> list[dict[str, Any]]:
    words = json.loads(given)
    chosen = settings(environment, **words)
    question = {
        "settings": chosen,
        "secrets": words.get("lakehouse_secrets", {}),
        "preflight_result": {
            "foundation_secrets": foundation_secrets(chosen),
            "ingress_ports": ingress_ports(chosen, described_services(*_catalogue(), chosen)[0]),
        },
    }
    process = _describer()
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(question) + "\n")
    process.stdin.flush()
    answer = process.stdout.readline()
    assert answer, "describe.py failed; its standard error says why"
    resources: list[dict[str, Any]] = json.loads(answer)
    return resources


def _settled(described: list[dict[str, Any]], attributes: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a description with the names of a region and the principals of its partition."""
    text = json.dumps(described).replace("${stack.region_suffix}", attributes["region_suffix"])
    for service, principal in attributes["service_principals"].items():
        text = text.replace(f"${{stack.service_principals.{service}}}", principal)
    settled: list[dict[str, Any]] = json.loads(text)
    return settled


def blueprint(environment: str, attributes: Mapping[str, Any] | None = None, **given: Any) -> Blueprint:
    """Return the resources that an inventory of the repository describes; `given` are further variables."""
    attributes = ATTRIBUTES if attributes is None else attributes
    described = _settled(_described(environment, json.dumps(given, sort_keys=True)), attributes)
    chosen = settings(environment, **given)
    common = StackDescription("crypto-lakehouse", environment, described, tags=chosen["lakehouse_tags"])
    resources = bounded(tagged(parse(described), common), chosen["lakehouse_aws_permissions_boundary"])
    by_address = {item.address: item for item in resources}
    assert len(by_address) == len(resources)
    return Blueprint(environment, by_address, tuple(sorted(given.get("lakehouse_secrets", {}))), attributes)


def statements(value: Any, path: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield every statement of every policy inside a value, with its path."""
    if isinstance(value, Mapping):
        if "Effect" in value:
            yield path, value
        for key, item in value.items():
            yield from statements(item, f"{path}.{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from statements(item, f"{path}[{index}]")


def texts(value: Any) -> list[str]:
    """Return a list from a policy element that is a string or a list of strings."""
    return [value] if isinstance(value, str) else list(value)
