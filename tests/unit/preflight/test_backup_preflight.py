# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules of backup and restore that concern several variables."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.inventory.variables import check
from ansible_collections.crypto_lakehouse.platform.plugins.plugin_utils.backup_preflight import (
    DESTINATION_SECRETS,
    backup_problems,
    destination_settings,
)

KEYS = dict.fromkeys(DESTINATION_SECRETS, "given")
STORE = {"lakehouse_backup_endpoint_url": "https://s3.example.org", "lakehouse_secrets": KEYS}
ENABLED: dict[str, Any] = {"backup": {}}

BAD: dict[str, tuple[dict[str, Any], str, str]] = {
    "production in its own store": (
        {"lakehouse_environment": "production"},
        "lakehouse_backup_endpoint_url",
        "does not survive the loss of this machine",
    ),
    "production in a folder": (
        {"lakehouse_environment": "production", "lakehouse_backup_folder": "/mnt/backup/lakehouse"},
        "lakehouse_backup_folder",
        "no object lock",
    ),
    "a folder and a store": (
        {**STORE, "lakehouse_backup_folder": "/mnt/backup/lakehouse"},
        "lakehouse_backup_folder",
        "both set",
    ),
    "a store in plain text": (
        {**STORE, "lakehouse_backup_endpoint_url": "http://s3.example.org"},
        "lakehouse_backup_endpoint_url",
        "plain text",
    ),
    "a store without credentials": (
        {**STORE, "lakehouse_secrets": {"backup_create_access_key": "given"}},
        "lakehouse_secrets",
        "backup_create_secret_key, backup_restore_access_key, backup_restore_secret_key",
    ),
    "encryption by its own store": (
        {"lakehouse_backup_encryption": "AES256"},
        "lakehouse_backup_encryption",
        "only another store encrypts",
    ),
    "a key that nothing uses": (
        {**STORE, "lakehouse_backup_encryption": "AES256", "lakehouse_backup_kms_key_id": "alias/backups"},
        "lakehouse_backup_kms_key_id",
        "does not ask for one",
    ),
    "a bucket without a store": ({"lakehouse_backup_bucket": "backups"}, "lakehouse_backup_bucket", "own store"),
    "a new name for every table": ({"lakehouse_restore_as": "gold.copy"}, "lakehouse_restore_as", "0 are listed"),
    "a new name in another tier": (
        {"lakehouse_restore_as": "silver.copy", "lakehouse_restore_tables": ["gold.ohlcv_daily"]},
        "lakehouse_restore_as",
        "another tier",
    ),
    "a new name that is the old one": (
        {"lakehouse_restore_as": "gold.volatility", "lakehouse_restore_tables": ["gold.volatility"]},
        "lakehouse_restore_as",
        "own name",
    ),
    "tables of a restore without tables": (
        {"lakehouse_restore_components": ["raw"], "lakehouse_restore_tables": ["gold.volatility"]},
        "lakehouse_restore_tables",
        "leaves tables out",
    ),
}


def settings(**given: Any) -> dict[str, Any]:
    """Return the settings of an inventory in which each single value is valid."""
    found, problems = check({"lakehouse_target": "host", "lakehouse_environment": "development", **given})
    assert problems == []
    return found


@pytest.mark.parametrize("case", BAD, ids=str)
def test_a_bad_combination_is_one_problem_with_a_remedy(case: str) -> None:
    given, variable, expected = BAD[case]
    (problem,) = backup_problems(settings(**given), ENABLED)
    assert problem.variable == variable
    assert expected in problem.message
    assert problem.remedy


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"lakehouse_backup_folder": "/mnt/backup/lakehouse"},
        {**STORE, "lakehouse_environment": "production", "lakehouse_backup_bucket": "backups"},
        {**STORE, "lakehouse_backup_endpoint_url": "http://127.0.0.1:9000"},
        {"lakehouse_restore_as": "gold.copy", "lakehouse_restore_tables": ["gold.volatility"]},
    ],
)
def test_a_good_combination_is_none(given: dict[str, Any]) -> None:
    assert backup_problems(settings(**given), ENABLED) == []


@pytest.mark.parametrize(
    ("endpoint", "is_own"),
    [
        ("https://127.0.0.1:8333", True),
        ("https://localhost:8333", True),
        ("https://10.1.2.3:8333", True),
        ("https://127.0.0.1:8334", False),
        ("https://10.1.2.4:8333", False),
        ("https://s3.example.org", False),
    ],
)
@pytest.mark.parametrize("environment", ["development", "production"])
def test_an_address_of_its_own_store_is_refused(endpoint: str, is_own: bool, environment: str) -> None:
    given = settings(**{**STORE, "lakehouse_backup_endpoint_url": endpoint, "lakehouse_environment": environment})
    ports = [
        {"service": "object-store", "name": name, "address": "10.1.2.3", "port": port}
        for name, port in (("s3", 8333), ("master", 8334))
    ]
    found = backup_problems(given, ENABLED, ports)
    assert [each.variable for each in found] == ["lakehouse_backup_endpoint_url"] * is_own
    assert all("own store" in each.message and each.remedy for each in found)


def test_the_remedy_that_disables_backups_works() -> None:
    assert backup_problems(settings(lakehouse_environment="production"), {}) == []


def test_the_authorities_of_the_machine_are_the_default() -> None:
    given = settings(lakehouse_ca_bundle="/etc/ssl/private-ca.pem", lakehouse_backup_times=["14:00", "02:00"])
    described = destination_settings(given, "1.0.0")
    assert described["backup_ca_bundle"] == "/etc/ssl/private-ca.pem"
    assert described["backup_times"] == "02:00 14:00"
    assert "backup_bucket" not in described
