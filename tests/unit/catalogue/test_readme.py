# SPDX-License-Identifier: GPL-3.0-or-later
"""The README of the role agrees with its behaviour."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest
import yaml

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.catalogue import service as model
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.catalogue.render import render
from tests.unit.catalogue.descriptions import HOME, PLACES, ROLE, platform

README = (ROLE / "README.md").read_text(encoding="utf-8")
TABLES = {
    "A service": model.Service,
    "A port": model.Port,
    "A file": model.File,
    "A volume": model.Volume,
    "Initialisation": model.Initialise,
    "Health": model.Health,
    "Metrics": model.Metrics,
    "Credentials": model.Credentials,
    "Resources": model.Resources,
    "Amounts": model.Amounts,
    "Operator": model.Operator,
    "Stop": model.Stop,
    "Scale": model.Scale,
    "A secret": model.Secret,
}


def rendered(overrides: Any, environment: str = "development") -> dict[str, Any]:
    described = platform()
    settings = {**described["catalogue_settings"], **PLACES}
    services, secrets = described["catalogue_services"], described["catalogue_secrets"]
    return render(services, secrets, "host", environment, overrides, settings, str(ROLE))


def examples() -> list[dict[str, Any]]:
    blocks = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    return [yaml.safe_load(block)["lakehouse_services"] for block in blocks]


@pytest.mark.parametrize("title", TABLES)
def test_every_word_of_the_model_is_explained_as_the_model_does(title: str) -> None:
    section = README.split(f"### {title}\n")[1].split("\n#")[0]
    rows = [tuple(re.split(r"\s*(?<!\\)\|\s*", line)[1:3]) for line in section.splitlines() if line.startswith("| `")]
    fields = dataclasses.fields(TABLES[title])
    assert rows == [(f"`{field.name}`", field.metadata["text"]) for field in fields if field.metadata]


def test_the_example_of_a_new_service_renders_as_the_text_says() -> None:
    result = rendered(examples()[0])
    (program,) = (program for program in result["programs"] if program["name"] == "quotes")
    etc = f"{HOME}/etc/quotes"
    assert program["command"][-5:] == [
        "/opt/quotes/bin/quotes",
        "--config",
        f"{etc}/quotes.toml",
        "--listen",
        "127.0.0.1:8090",
    ]
    order = {program["name"]: program["start_order"] for program in result["programs"]}
    assert order["quotes"] > order["database"]
    contents = {file["path"]: file["content"] for file in result["files"]}
    assert contents[f"{etc}/environment"] == f"QUOTES_STATE={HOME}/data/quotes/state\n"
    assert f'password_file = "{HOME}/secrets/quotes/database_lakehouse_password"' in contents[f"{etc}/quotes.toml"]
    assert "job_name: quotes" in contents[f"{HOME}/etc/prometheus/prometheus.yml"]
    production = rendered(examples()[0], "production")
    assert production["services"]["quotes"]["resources"]["limits"]["memory"] == "2Gi"


def test_the_example_of_an_override_renders_as_the_text_says() -> None:
    result = rendered(examples()[1])
    assert {"service": "grafana", "reason": "switched off"} in result["omitted"]
    assert result["services"]["object-store"]["resources"]["limits"]["memory"] == "2Gi"


def test_every_placeholder_that_the_table_names_is_known() -> None:
    table = README.split("## Placeholders")[1].split("\n## ")[0]
    names = set(re.findall(r"\$\{([a-z_]+)[.}]", table))
    assert names == {
        *("address", "environment", "file", "folder", "instance", "port", "secret", "secret_value"),
        *("service", "setting", "stop", "target", "volume"),
    }
