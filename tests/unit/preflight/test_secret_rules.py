# SPDX-License-Identifier: GPL-3.0-or-later
"""Values that services accept: one rule each, checked by the preflight of every target before any change."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.catalogue.render import render
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.inventory.variables import check
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.secrets.rules import (
    FORMS,
    GENERATED,
    PLAIN_KINDS,
    value_problems,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.secrets.values import SecretSpec, random_value
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.shared.problem import Problem
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.shared.targets import TARGETS
from ansible_collections.crypto_lakehouse.platform.plugins.plugin_utils import aws_preflight, secret_preflight
from ansible_collections.crypto_lakehouse.platform.plugins.plugin_utils.cluster_run import ClusterRun
from tests.unit.catalogue.descriptions import PLACES, ROLE, platform

SHARED = "SHARED1ACCESS2KEY3"
WRONG = {
    "alertmanager_slack_webhook_url": "hooks.example.org/services/hunter2",
    "api_token": "hunter2-1234",
    "api_tokn": "hunter2-hunter2-hunter2",
    "database_lakehouse_password": "hunter2-hunter2 ",
    "grafana_admin_password": "",
    "orchestrator_password": 22222222,
    "prometheus_password": "hunter2-" * 10,
    "prometheus_password_bcrypt": "hunter2-hunter2",
}
MESSAGES = {
    "alertmanager_slack_webhook_url": ("is not an http(s) address", "give an address such as https://"),
    "api_token": ("is shorter than 16 characters", "give a longer one"),
    "api_tokn": ("is unknown", "did you mean 'api_token'?"),
    "database_lakehouse_password": ("is not a password that every client can send", "blanks only inside"),
    "grafana_admin_password": ("is empty", "set its value, or remove it"),
    "orchestrator_password": ("is of type int", "put it in quotes"),
    "prometheus_password": ("is longer than the 72 bytes of bcrypt", "give at most 72 bytes"),
    "prometheus_password_bcrypt": ("is derived from 'prometheus_password'", "set the value of that secret"),
}
NAMED = re.compile(r"secret '([a-z_]+)'")


@cache
def rendered(target: str) -> dict[str, Any]:
    described = platform()
    places = PLACES if target == "host" else {}
    settings = {**described["catalogue_settings"], **places, "alertmanager_slack_enabled": True}
    services, secrets = described["catalogue_services"], described["catalogue_secrets"]
    return render(services, secrets, target, "development", {}, settings, str(ROLE))


def inventory(target: str, secrets: Mapping[str, Any], **variables: Any) -> dict[str, Any]:
    settings, others = check(
        {
            "lakehouse_target": target,
            "lakehouse_environment": "development",
            "lakehouse_secrets": secrets,
            **variables,
        }
    )
    assert others == []
    return settings


def problems(target: str, values: Mapping[str, Any]) -> list[Problem]:
    """Return the problems that the preflight of a target finds in the secrets of an inventory."""
    settings, known = inventory(target, values), platform()["catalogue_secrets"]
    if target == "eks":
        return aws_preflight.secret_problems(settings, known)
    return secret_preflight.secret_problems(rendered(target), settings["lakehouse_secrets"], known)


@pytest.mark.parametrize("target", TARGETS)
def test_all_secrets_that_a_service_would_refuse_are_reported_at_once_on_every_target(target: str) -> None:
    found = {match[1]: problem for problem in problems(target, WRONG) if (match := NAMED.search(problem.message))}
    assert found.keys() == WRONG.keys()
    assert {problem.variable for problem in found.values()} == {"lakehouse_secrets"}
    for name, (message, remedy) in MESSAGES.items():
        assert message in found[name].message
        assert remedy in found[name].remedy
    assert "hunter2" not in str(found)


def test_secrets_are_judged_beside_services_that_cannot_be_rendered() -> None:
    known = platform()["catalogue_secrets"]
    found = secret_preflight.secret_problems({}, {**WRONG, "licence_key": "of a service"}, known)
    # The readers of a name are not known then.
    assert len(found) == len(WRONG) - 1
    assert not [problem for problem in found if "unknown" in problem.message]


@pytest.mark.parametrize("target", ["host", "k3s"])
def test_two_identities_with_one_access_key_are_refused(target: str) -> None:
    names = ("object_store_admin_access_key", "object_store_query_access_key")
    (problem,) = problems(target, dict.fromkeys(names, SHARED))
    assert "'object_store_admin_access_key', 'object_store_query_access_key' have the same value" in problem.message
    assert problems(target, {names[0]: SHARED, names[1]: f"{SHARED}4"}) == []


def test_a_password_that_only_an_ingress_hashes_is_judged_by_that(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = inventory(
        "k3s",
        {"orchestrator_password": "p" * 73},
        lakehouse_domain="lakehouse.example.org",
        lakehouse_ingress_services=["orchestrator"],
        lakehouse_ingress_tls_secret="tls",
    )
    monkeypatch.setattr(ClusterRun, "_ask", lambda *_arguments: {})
    known = rendered("k3s")["services"]
    run = ClusterRun(
        verb="deploy",
        given={},
        settings=chosen,
        known=known,
        problems=[],
        render=lambda _place, _services: rendered("k3s"),
        ask=lambda _question: {},
        chart_defaults={},
    )
    run.prepare(lambda draft, values: secret_preflight.secret_problems(draft, values, {}))
    (problem,) = (problem for problem in run.problems if problem.variable == "lakehouse_secrets")
    assert "'orchestrator_password' is longer than the 72 bytes of bcrypt" in problem.message


def judged(value: Any, kind: str, form: str | None = None) -> list[str]:
    spec = SecretSpec("secret", kind, form=form, optional=True)
    return [problem.message for problem in value_problems([spec], {"secret": value})]


REFUSED = [
    ("password", None, "päßwörter"),
    ("password", None, " blank-first"),
    ("password", None, "7 chars"),
    ("password", None, "two\nlines-long"),
    ("access_key", None, "FIFTEEN_LETTERS"),
    ("access_key", None, "A/SLASH/ENDS/THE/SCOPE"),
    ("access_key", None, "A" * 129),
    ("token", None, "blanks are no token"),
    ("token", None, "=at-the-beginning-"),
    ("hex", None, "0123456789abcdef0123456789abcdeg"),
    ("hex", None, "0123456789abcdef"),
    ("given", None, "7 chars"),
    ("given", "http_url", "ftp://hooks.example.org/T0"),
    ("given", "http_url", "https:///services/T0"),
    ("given", "http_url", "https://user:password@hooks.example.org/T0"),
    ("given", "http_url", "https://hooks.example.org/T0 B0"),
    ("given", "http_url", "https://hooks.example.org/%zz"),
    ("given", "http_url", "https://hooks.example.org:port/T0"),
    ("private_key", None, "x" * 40),
    ("password", None, ["a-list-of-text"]),
]


@pytest.mark.parametrize(("kind", "form", "value"), REFUSED)
def test_a_value_that_a_service_refuses_is_one_problem_that_does_not_tell_it(
    kind: str, form: str | None, value: Any
) -> None:
    (message,) = judged(value, kind, form)
    assert str(value) not in message


ACCEPTED = [
    ("password", None, "given:password/with%signs and$dollars'\\\""),
    ("token", None, "given/token+with~marks-and.dots=="),
    ("token", None, "sixteen-letters."),
    ("given", None, "a licence, even with ümlauts"),
    ("given", "http_url", "http://relay.alerts.svc:8080"),
    ("given", "http_url", "https://[2001:db8::1]:8443/services/T0?x=%2F#y"),
]


@pytest.mark.parametrize(("kind", "form", "value"), ACCEPTED)
def test_a_value_that_every_service_accepts_is_no_problem(kind: str, form: str | None, value: str) -> None:
    assert judged(value, kind, form) == []


@pytest.mark.parametrize("kind", GENERATED)
def test_a_generated_value_is_one_that_the_inventory_could_give(kind: str) -> None:
    form = FORMS[kind]
    for length in (None, form.minimum_characters, form.maximum_characters or 72):
        assert judged(random_value(SecretSpec("secret", kind, length)), kind) == []


def test_the_address_that_a_remedy_gives_is_accepted() -> None:
    (address,) = re.findall(r"https://[^ ,]+", FORMS["http_url"].characters)
    assert judged(address, "given", "http_url") == []


@given(st.text(string.printable, min_size=1, max_size=140), st.sampled_from(PLAIN_KINDS))
def test_the_remedies_of_a_refused_value_make_it_an_accepted_one(value: str, kind: str) -> None:
    form = FORMS["text" if kind == "given" else kind]
    repaired = "".join(character for character in value if form.pattern.fullmatch(f"a{character}a")).strip()
    repaired = repaired.ljust(form.minimum_characters, "a")[: form.maximum_characters].strip().ljust(8, "a")
    assert judged(repaired, kind) == []
    if judged(value, kind) == []:
        assert form.pattern.fullmatch(value)
