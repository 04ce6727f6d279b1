# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings come from the environment alone, and their errors name variables and no values."""

from __future__ import annotations

from typing import get_args

import pytest
from pydantic import SecretStr

from crypto_lakehouse import cli
from crypto_lakehouse.catalog import catalog_properties
from crypto_lakehouse.settings import Settings, SettingsError, variable_name

SECRET = "hunter2-hunter2-hunter2"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("LAKEHOUSE_API_PORT", "eighty"),
        ("LAKEHOUSE_API_PORT", "0"),
        ("LAKEHOUSE_ENVIRONMENT", "playground"),
        ("LAKEHOUSE_S3_ENDPOINT", "127.0.0.1:8333"),
        ("LAKEHOUSE_CATALOG_TYPE", "hive"),
        ("LAKEHOUSE_QUERY_TIMEOUT_S", "-1"),
        ("PREFECT_API_URL", "ftp://orchestrator"),
    ],
)
def test_a_wrong_value_is_refused_by_the_name_of_its_variable_and_not_shown(
    clean_environment: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    clean_environment.setenv(variable, value)
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment()
    assert variable in str(caught.value)
    assert value not in str(caught.value).replace(variable, "")


def test_every_wrong_value_is_named_at_once(clean_environment: pytest.MonkeyPatch) -> None:
    clean_environment.setenv("LAKEHOUSE_API_PORT", "eighty")
    clean_environment.setenv("LAKEHOUSE_CATALOG_TYPE", "hive")
    with pytest.raises(SettingsError, match=r"LAKEHOUSE_API_PORT.*LAKEHOUSE_CATALOG_TYPE"):
        Settings.from_environment()


def test_a_missing_setting_is_asked_for_by_its_variable(clean_environment: pytest.MonkeyPatch) -> None:
    settings = Settings.from_environment()
    with pytest.raises(SettingsError, match="LAKEHOUSE_DATABASE_URL is not set"):
        settings.require("database_url")
    with pytest.raises(SettingsError, match="PREFECT_API_URL is not set"):
        settings.require("prefect_api_url")


def test_an_empty_variable_counts_as_missing(clean_environment: pytest.MonkeyPatch) -> None:
    clean_environment.setenv("LAKEHOUSE_API_TOKEN", "")
    assert Settings.from_environment().api_token is None


def test_no_setting_has_a_rule_about_a_secret_which_the_deployment_checks(
    clean_environment: pytest.MonkeyPatch,
) -> None:
    secrets = [name for name, field in Settings.model_fields.items() if SecretStr in get_args(field.annotation)]
    assert {"api_token", "database_url", "s3_secret_key", "prefect_api_auth_string"} <= set(secrets)
    for name in secrets:
        clean_environment.setenv(variable_name(name), "x")
    settings = Settings.from_environment()
    assert [settings.secret(name) for name in secrets] == ["x"] * len(secrets)


def test_secrets_do_not_show_in_text(clean_environment: pytest.MonkeyPatch) -> None:
    for name in ("API_TOKEN", "DATABASE_URL", "S3_SECRET_KEY", "PROMETHEUS_PASSWORD"):
        clean_environment.setenv(f"LAKEHOUSE_{name}", SECRET)
    clean_environment.setenv("PREFECT_API_AUTH_STRING", SECRET)
    settings = Settings.from_environment()
    assert SECRET not in f"{settings!r} {settings}"
    assert settings.require("database_url") == SECRET
    assert settings.secret("prefect_api_auth_string") == SECRET


def test_settings_cannot_be_changed(clean_environment: pytest.MonkeyPatch) -> None:
    settings = Settings.from_environment()
    with pytest.raises(ValueError, match="frozen"):
        settings.api_port = 1


def test_every_setting_has_one_variable() -> None:
    variables = [variable_name(field) for field in Settings.model_fields]
    assert len(set(variables)) == len(variables)
    assert {"LAKEHOUSE_GOLD_WAREHOUSE", "PREFECT_API_URL", "LAKEHOUSE_TEXTFILE_DIR"} <= set(variables)


def test_without_keys_the_catalog_uses_the_default_credentials(clean_environment: pytest.MonkeyPatch) -> None:
    clean_environment.setenv("LAKEHOUSE_CATALOG_TYPE", "glue")
    clean_environment.setenv("LAKEHOUSE_GOLD_WAREHOUSE", "s3://gold/warehouse")
    properties = catalog_properties(Settings.from_environment(), "gold")
    assert properties["type"] == "glue"
    assert not [name for name in properties if "key" in name or "uri" in name]


def test_a_command_without_its_settings_exits_with_2_and_one_line(
    clean_environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["api"]) == 2
    assert capsys.readouterr().err == "lakehouse api: LAKEHOUSE_CATALOG_URI is not set; this command needs it\n"


def test_an_unknown_command_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["explode"])
    assert caught.value.code == 2
    assert "bootstrap" in capsys.readouterr().err
