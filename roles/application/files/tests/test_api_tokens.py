# SPDX-License-Identifier: GPL-3.0-or-later
"""Named tokens are derived from the deployment's own, and a command prints them."""

from __future__ import annotations

import json

import pytest
import services

from crypto_lakehouse import cli
from crypto_lakehouse.api.security import MAIN, Tokens, derived_token
from crypto_lakehouse.settings import SettingsError

TOKEN = "a-token-of-the-tests-0123456789"


@pytest.mark.parametrize(
    "given",
    [
        "dashboards",
        '["dashboards"]',
        '{"dashboards": "many"}',
    ],
)
def test_tokens_without_shares_are_refused_by_the_name_of_the_variable(given: str) -> None:
    with pytest.raises(SettingsError, match="LAKEHOUSE_API_TOKENS"):
        services.settings_from({"LAKEHOUSE_API_TOKENS": given})


def test_settings_with_tokens_are_still_one_value() -> None:
    given = {"LAKEHOUSE_API_TOKENS": '{"b": 2, "a": 1.5}'}
    settings = services.settings_from(given)
    assert settings.api_tokens == (("a", 1.5), ("b", 2.0))
    # Clients are cached by their settings.
    assert hash(settings) == hash(services.settings_from(given))
    assert services.settings_from({"LAKEHOUSE_API_TOKENS": "{}"}).api_tokens == ()


def test_each_name_has_a_token_of_its_own_and_no_other_opens() -> None:
    tokens = Tokens(TOKEN, ["a", "b"])
    assert tokens.name_of(TOKEN) == MAIN
    assert [tokens.name_of(derived_token(TOKEN, name)) for name in ("a", "b", "c")] == ["a", "b", None]
    assert tokens.name_of(derived_token("another-token-0123456789", "a")) is None
    for wrong in ("", "a", TOKEN[:-1], TOKEN + "x", "\udcff", "ü🚀"):
        assert tokens.name_of(wrong) is None


def test_the_command_prints_the_token_that_the_api_takes(
    clean_environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clean_environment.setenv("LAKEHOUSE_API_TOKEN", TOKEN)
    clean_environment.setenv("LAKEHOUSE_API_TOKENS", json.dumps({"dashboards": 3}))
    assert cli.main(["token", "dashboards"]) == 0
    assert Tokens(TOKEN, ["dashboards"]).name_of(capsys.readouterr().out.strip()) == "dashboards"


def test_the_command_refuses_a_name_that_the_api_does_not_have_and_its_remedy_works(
    clean_environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clean_environment.setenv("LAKEHOUSE_API_TOKEN", TOKEN)
    clean_environment.setenv("LAKEHOUSE_API_TOKENS", json.dumps({"dashboards": 3}))
    with pytest.raises(SystemExit):
        cli.main(["token", "dashboard"])
    message = capsys.readouterr().err
    assert "lakehouse_api_tokens" in message
    assert cli.main(["token", message.rpartition(": ")[2].strip()]) == 0
    assert Tokens(TOKEN, ["dashboards"]).name_of(capsys.readouterr().out.strip()) == "dashboards"


def test_the_command_needs_the_deployments_token(
    clean_environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["token", "dashboards"]) == 2
    assert "LAKEHOUSE_API_TOKEN is not set" in capsys.readouterr().err
