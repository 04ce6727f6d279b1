# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter that reads and renders the platform gives what the one for read descriptions gives."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.crypto_lakehouse.platform.plugins.filter import render_catalogue, render_services
from tests.unit.catalogue.descriptions import PLACES, ROLE, platform

PLATFORM = platform()
SETTINGS = {"host": PLACES, "k3s": {"namespace": "lakehouse"}}
READ_SECRETS = [*PLATFORM["catalogue_services"]["api"]["secrets"], "provider_token"]
TOKEN_READER = {"api": {"environment": {"TOKEN": "${secret.provider_token}"}, "secrets": READ_SECRETS}}


def from_folder(*arguments: Any, **options: Any) -> dict[str, Any]:
    result: dict[str, Any] = render_catalogue.FilterModule().filters()["render_catalogue"](
        str(ROLE), *arguments, **options
    )
    return result


@pytest.mark.parametrize("target", ["host", "k3s"])
@pytest.mark.parametrize("environment", ["development", "production"])
def test_the_folder_is_rendered_as_its_description(target: str, environment: str) -> None:
    overrides = {"api": {"replicas": 2}} if target == "k3s" else {}
    settings = {**PLATFORM["catalogue_settings"], **SETTINGS[target]}
    read = render_services.FilterModule().filters()["render_services"](
        PLATFORM["catalogue_services"],
        target,
        environment,
        secrets=PLATFORM["catalogue_secrets"],
        overrides=overrides,
        settings=settings,
        source=str(ROLE),
    )
    assert from_folder(target, environment, overrides=overrides, settings=SETTINGS[target]) == read


def test_services_of_the_inventory_reference_given_secrets() -> None:
    with pytest.raises(AnsibleFilterError, match="provider_token"):
        from_folder("k3s", "development", overrides=TOKEN_READER, settings=SETTINGS["k3s"])
    # A secret of the catalogue keeps its own kind.
    generated = READ_SECRETS[0]
    assert PLATFORM["catalogue_secrets"][generated]["kind"] != "given"
    given = ["provider_token", generated]
    rendered = from_folder("k3s", "development", given, overrides=TOKEN_READER, settings=SETTINGS["k3s"])
    kinds = {secret["name"]: secret["kind"] for secret in rendered["secrets"]}
    assert kinds["provider_token"] == "given"
    assert kinds[generated] == PLATFORM["catalogue_secrets"][generated]["kind"]


def test_problems_name_variable_and_remedy() -> None:
    with pytest.raises(AnsibleFilterError, match=r"lakehouse_services.databse: there is no service 'databse'"):
        from_folder("k3s", "development", overrides={"databse": {"replicas": 1}}, settings=SETTINGS["k3s"])
