# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.catalogue.load import load, merged
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.catalogue.words import CatalogueError
from tests.unit.catalogue.descriptions import loaded, service

PORT = {"http": {"port": 8080}}

# The override in the service `api`, the location of the problem below it, the message, the remedy.
WRONG_WORDS: list[tuple[dict[str, Any], str, str, str]] = [
    ({"comand": ["x"]}, "comand", "unsupported key 'comand'", "write command"),
    ({"ports": {"http": {"prot": 80}}}, "ports.http.prot", "unsupported key 'prot'", "write port"),
    ({"target": {}}, "target", "unsupported key 'target'", "write targets"),
    ({"zzz": 1}, "zzz", "unsupported key 'zzz'", "use one of: arguments, calls, command"),
    ({"command": "serve"}, "command", "'serve' is not a list", "write it as a list: [one, two]"),
    ({"command": ["x", 1.5]}, "command[1]", "1.5 is not a string", "put it in quotes: '1.5'"),
    ({"environment": {"A": True}}, "environment.A", "True is not a string", "put it in quotes: 'True'"),
    ({"environment": {"A": {}}}, "environment.A", "{} is not a string", "correct its type"),
    ({"environment": ["A=1"]}, "environment", "['A=1'] is not a map", "write it as `name: value` lines"),
    (
        {"environment": {"A-B": "1"}},
        "environment.A-B",
        "'A-B' is not the name of an environment",
        "letters, digits and _",
    ),
    ({"environment": {"A": "1\n2"}}, "environment.A", "it holds a line break", "put longer text into a file"),
    ({"command": ["x", "a\nb"]}, "command[1]", "it holds a line break", "put longer text into a file"),
    ({"enabled": "no"}, "enabled", "'no' is not true or false", "correct its type"),
    ({"replicas": "3"}, "replicas", "'3' is not a whole number", "correct its type"),
    ({"replicas": True}, "replicas", "True is not a whole number", "correct its type"),
    ({"replicas": 0}, "replicas", "0 is too small", "use a number from 1"),
    ({"kind": "servise"}, "kind", "'servise' is not known here", "write service"),
    ({"health": {"type": "https"}}, "health.type", "'https' is not known here", "write http"),
    ({"health": {"type": "tcp", "start_period_s": -1}}, "health.start_period_s", "-1 is too small", "from 0"),
    (
        {"health": {"type": "http", "expected_status": [99]}},
        "health.expected_status[0]",
        "99 is not an HTTP",
        "100 to 599",
    ),
    ({"health": {"type": "http", "path": "x y"}}, "health.path", "'x y' is not the path of a URL", "start it with /"),
    ({"health": "tcp"}, "health", "'tcp' is not a map", "write it as `key: value` lines"),
    ({"ports": {"http": {"port": 70000}}}, "ports.http.port", "70000 is not a port", "use a number from 1 to 65535"),
    ({"ports": {"http": {"port": "80"}}}, "ports.http.port", "'80' is not a whole number", "correct its type"),
    ({"ports": {"http": 80}}, "ports.http", "80 is not a map", "write it as"),
    ({"ports": {"a.b": {"port": 80}}}, "ports[a.b]", "'a.b' is not a usable name", "lower case letters, digits and"),
    ({"volumes": {"data": {"path": "data"}}}, "volumes.data.path", "'data' is not a folder", "absolute path"),
    ({"volumes": {"data": {"path": "/a/../b"}}}, "volumes.data.path", "is not a folder", "absolute path"),
    ({"volumes": {"data": {"size": "5 GB"}}}, "volumes.data.size", "'5 GB' is not an amount of memory", "512Mi"),
    ({"volumes": {"data": {"size": "0Gi"}}}, "volumes.data.size", "'0Gi' is not an amount of memory", "512Mi"),
    ({"resources": {"limits": {"memory": "1g"}}}, "resources.limits.memory", "'1g' is not an amount", "512Mi"),
    ({"resources": {"limits": {"cpu": "2 cores"}}}, "resources.limits.cpu", "'2 cores' is not a share", "250m"),
    ({"resources": {"limits": {"cpu": "0"}}}, "resources.limits.cpu", "'0' is not a share", "250m"),
    ({"image": "nginx"}, "image", "'nginx' does not pin an image", "name a version"),
    ({"image": "nginx:latest"}, "image", "'nginx:latest' does not pin an image", "name a version"),
    ({"files": {"../x": {"content": ""}}}, "files[../x]", "'../x' is not a usable file name", "relative path"),
    ({"files": {"environment": {"content": ""}}}, "files.environment", "is not a usable file name", "relative path"),
    ({"secrets": ["API-KEY"]}, "secrets[0]", "'API-KEY' is not a usable secret name", "lower case letters"),
    ({"managed": {"aws": "s3"}}, "managed.aws", "'aws' is not a target", "use one of: compose, eks"),
    ({"stop": {"signal": "KILL"}}, "stop.signal", "'KILL' is not known here", "use one of: HUP, INT"),
    ({"targets": {"hots": {}}}, "targets.hots", "'hots' is not known here", "write host"),
    ({"targets": []}, "targets", "it is not a map", "write it as `host: {key: value}` lines"),
    ({"environments": {"prod": {}}}, "environments.prod", "'prod' is not known here", "write production"),
    # Overlays of other targets and environments are always checked, not only when they are used.
    ({"targets": {"eks": {"imge": "x:1"}}}, "targets.eks.imge", "unsupported key 'imge'", "write image"),
    ({"environments": {"staging": {"replicas": "x"}}}, "environments.staging.replicas", "'x' is not a whole", "type"),
]

WRONG_RELATIONS: list[tuple[dict[str, Any], str, str, str]] = [
    ({"depends_on": ["databse"]}, "depends_on[0]", "there is no service 'databse'", "write database"),
    ({"depends_on": ["off"]}, "depends_on[0]", "off is switched off", "switch api off too, or take off out of here"),
    ({"depends_on": ["database"]}, "depends_on", "wait for each other: api -> database -> api", "take one dependency"),
    ({"depends_on": ["api"]}, "depends_on", "wait for each other: api -> api", "take one dependency"),
    ({"command": [], "provided_by": "databse"}, "provided_by", "there is no service 'databse'", "write database"),
    (
        {"command": [], "provided_by": "inside"},
        "provided_by",
        "inside has no process of its own",
        "whose command serves it",
    ),
    ({"provided_by": "other"}, "command", "other provides it already", "leave out command or provided_by"),
    ({"command": []}, "command", "nothing says how it is started", "add command, or provided_by"),
    ({"incomplete": "/x"}, "incomplete", "only the work of a job ends", "make it a job"),
    ({"kind": "job", "ports": PORT}, "kind", "a job has neither ports nor replicas", "make it a service"),
    ({"initialise": {"command": [], "creates": "/x"}}, "initialise.command", "it is empty", "write the command line"),
    ({"secrets": ["knwon"]}, "secrets[0]", "there is no secret 'knwon'", "write known"),
    (
        {"ports": PORT, "metrics": {"port": "http", "authentication": {"username": "u", "secret": "knwon"}}},
        "metrics.authentication.secret",
        "there is no secret 'knwon'",
        "write known",
    ),
    ({"ports": PORT, "metrics": {"port": "htp"}}, "metrics.port", "there is no port 'htp'", "write http"),
    ({"health": {"type": "tcp", "port": "http"}}, "health.port", "there is no port 'http'", "remove it"),
    (
        {"ports": PORT, "health": {"type": "http"}},
        "health.port",
        "a check of type http has no port",
        "use one of: http",
    ),
    ({"health": {"type": "command"}}, "health.command", "a check of type command has no command", "add it as a list"),
    (
        {"ports": {"http": {"port": 1, "web_page": True}}},
        "ports.http.web_page",
        "is open to everybody",
        "authenticated: true",
    ),
    (
        {"ports": {"http": {"port": 1, "expose": True}}},
        "ports.http.expose",
        "open to other machines",
        "leave it on loopback",
    ),
    (
        {"ports": {"http": {"port": 1, "expose": True, "authenticated": True, "private": "it tells all"}}},
        "ports.http.expose",
        "it may not be exposed: it tells all",
        "put a proxy that asks for a password before it",
    ),
    ({"files": {"a.conf": {}}}, "files[a.conf]", "it is not clear what it holds", "exactly one of template, content"),
    (
        {"resources": {"requests": {"memory": "2Gi"}, "limits": {"memory": "1Gi"}}},
        "resources.requests.memory",
        "2Gi is more than the limit 1Gi",
        "raise resources.limits.memory",
    ),
    (
        {"resources": {"requests": {"cpu": "1500m"}, "limits": {"cpu": "1"}}},
        "resources.requests.cpu",
        "1500m is more than the limit 1",
        "ask for less",
    ),
    (
        {"environment": {"TZ": "UTC", "tz": "CET"}},
        "environment.tz",
        "it is given twice, TZ says something else",
        "keep one of TZ",
    ),
]

AROUND = {
    "api": service(),
    "database": service(depends_on=["api"]),
    "other": service(),
    "inside": service(command=[], provided_by="other"),
    "off": service(enabled=False),
}


@pytest.mark.parametrize(("words", "place", "message", "remedy"), WRONG_WORDS)
def test_a_wrong_word_is_named_with_its_place_and_remedy(
    words: dict[str, Any], place: str, message: str, remedy: str
) -> None:
    _catalogue, problems = loaded({"api": service()}, overrides={"api": words})
    (problem,) = (found for found in problems if not found.message.startswith("it is missing"))
    dot = "" if place.startswith("[") else "."
    assert problem.variable == f"lakehouse_services.api{dot}{place}"
    assert message in problem.message
    assert remedy in problem.remedy


@pytest.mark.parametrize(("words", "place", "message", "remedy"), WRONG_RELATIONS)
def test_what_does_not_fit_together_is_named_with_its_place_and_remedy(
    words: dict[str, Any], place: str, message: str, remedy: str
) -> None:
    _catalogue, problems = loaded(AROUND, overrides={"api": words})
    found = [problem for problem in problems if problem.variable == f"lakehouse_services.api.{place}"]
    assert [(message in problem.message, remedy in problem.remedy) for problem in found] == [(True, True)]


def test_all_problems_of_all_services_are_found_at_once() -> None:
    overrides = {
        "api": {"ports": {"http": {"prot": 1}}, "replicas": "x"},
        "database": {"depends_on": ["nobody"]},
        "Bad_Name": service(),
        "new": {"purpose": "Has no command."},
    }
    _catalogue, problems = loaded(AROUND, overrides=overrides)
    assert {problem.variable for problem in problems} == {
        "lakehouse_services.api.ports.http.prot",
        "lakehouse_services.api.replicas",
        "lakehouse_services.database.depends_on[0]",
        "lakehouse_services.Bad_Name",
        "lakehouse_services.new.command",
    }


def test_a_service_that_cannot_be_read_is_not_reported_again_by_those_that_depend_on_it() -> None:
    _catalogue, problems = loaded(AROUND, overrides={"api": {"replicas": "x"}})
    assert [problem.variable for problem in problems] == ["lakehouse_services.api.replicas"]


def test_every_cycle_is_shown_once_and_from_its_first_name() -> None:
    services = {
        "a": service(depends_on=["c"]),
        "b": service(depends_on=["a"]),
        "c": service(depends_on=["b"]),
        "x": service(command=[], provided_by="y"),
        "y": service(depends_on=["x"]),
    }
    _catalogue, problems = loaded(services)
    assert [problem.message for problem in problems] == [
        "the services wait for each other: a -> c -> b -> a",
        "the services wait for each other: x -> y -> x",
    ]


def test_a_misspelt_service_is_told_from_a_new_one() -> None:
    _catalogue, problems = loaded({"database": service()}, overrides={"databse": {"replicas": 2}})
    assert ("there is no service 'databse' to override", "write database") in [
        (problem.message, problem.remedy) for problem in problems
    ]


@pytest.mark.parametrize("overrides", [[], "api", 5])
def test_overrides_that_are_no_map_are_refused(overrides: object) -> None:
    _catalogue, problems = loaded({"api": service()}, overrides=overrides)
    assert [problem.variable for problem in problems] == ["lakehouse_services"]


def test_names_that_the_platform_needs_for_itself_are_refused() -> None:
    _catalogue, problems = loaded({}, overrides={"supervisor": service(), 7: service()})
    assert [(problem.variable, problem.message) for problem in problems] == [
        ("lakehouse_services.supervisor", "the name is taken by the process manager"),
        ("lakehouse_services.7", "7 is not a name"),
    ]


@pytest.mark.parametrize(("target", "environment"), [("hots", "development"), ("host", "developmnt")])
def test_an_unknown_target_or_environment_ends_at_once(target: str, environment: str) -> None:
    with pytest.raises(CatalogueError, match=r"is not known\. Remedy: write (host|development)"):
        load({}, {}, target, environment)


AUTHORITY = {"k": {"kind": "private_key"}, "a": {"kind": "authority", "of": "k", "common_name": "a"}}


@pytest.mark.parametrize(
    ("secrets", "variable", "message"),
    [
        ({"hash": {"purpose": "x", "kind": "bcrypt"}}, "catalogue_secrets.hash.of", "`of` does not fit kind bcrypt"),
        ({"hash": {"purpose": "x", "of": "known"}}, "catalogue_secrets.hash.of", "`of` does not fit kind password"),
        (
            {**AUTHORITY, "c": {"kind": "certificate", "of": "known", "issuer": "a", "common_name": "c"}},
            "catalogue_secrets.c.of",
            "there is no secret 'known' of kind private_key",
        ),
        (
            {**AUTHORITY, "c": {"kind": "authority", "of": "k"}},
            "catalogue_secrets.c.common_name",
            "`common_name` does not fit kind authority",
        ),
        (
            {"hash": {"kind": "bcrypt", "of": "knwon"}},
            "catalogue_secrets.hash.of",
            "no secret 'knwon' of kind password",
        ),
        ({"key": {"length": 7}}, "catalogue_secrets.key.length", "7 is not a length of a password"),
        ({"key": {"kind": "token", "length": 12}}, "catalogue_secrets.key.length", "12 is not a length of a bearer"),
        ({"key": {"kind": "given", "length": 12}}, "catalogue_secrets.key.length", "does not fit kind given"),
        ({"key": {"form": "http_url"}}, "catalogue_secrets.key.form", "`form` does not fit kind password"),
        ({"key": {"kind": "given", "form": "url"}}, "catalogue_secrets.key.form", "'url' is not known here"),
        ({"key": {"kind": "pasword"}}, "catalogue_secrets.key.kind", "'pasword' is not known here"),
        ({"Key": {"purpose": "x"}}, "catalogue_secrets.Key", "'Key' is not a usable secret name"),
        ({"key": {"lenght": 3}}, "catalogue_secrets.key.lenght", "unsupported key 'lenght'"),
    ],
)
def test_a_wrong_secret_is_named(secrets: dict[str, Any], variable: str, message: str) -> None:
    _catalogue, problems = loaded({}, secrets=secrets)
    assert [(problem.variable, message in problem.message) for problem in problems] == [(variable, True)]


def test_settings_are_chosen_by_the_environment_and_may_name_it() -> None:
    settings = {"days": {"development": 7, "production": 30}, "bucket": "gold-${environment}", "on": True}
    catalogue, problems = loaded({}, settings=settings, environment="production")
    assert (catalogue.settings, problems) == ({"days": "30", "bucket": "gold-production", "on": "true"}, [])


def test_a_setting_without_a_value_for_the_environment_is_refused() -> None:
    _catalogue, problems = loaded({}, settings={"days": {"production": 30}, "name": "${nvironment}"})
    assert [(problem.variable, problem.message) for problem in problems] == [
        ("catalogue_settings.days", "it has no value for development"),
        ("catalogue_settings.name", "${nvironment} is not known"),
    ]


def test_layers_win_from_the_description_to_the_environment_overlay_of_the_inventory() -> None:
    described = service(
        environment=dict.fromkeys("ABCDEF", "described"),
        targets={"host": {"environment": dict.fromkeys("BCDEF", "target")}, "eks": {"image": "eks:1"}},
        environments={"production": {"environment": dict.fromkeys("CDEF", "environment")}},
    )
    override = {
        "environment": dict.fromkeys("DEF", "inventory"),
        "targets": {"host": {"environment": dict.fromkeys("EF", "inventory target")}},
        "environments": {"production": {"environment": {"F": "inventory environment"}}},
    }
    catalogue, problems = loaded({"api": described}, overrides={"api": override}, environment="production")
    assert problems == []
    assert catalogue.services["api"].environment == {
        "A": "described",
        "B": "target",
        "C": "environment",
        "D": "inventory",
        "E": "inventory target",
        "F": "inventory environment",
    }
    assert catalogue.services["api"].image is None


def test_maps_are_merged_lists_are_replaced_and_a_null_takes_away() -> None:
    base = {"a": {"b": 1, "c": [1, 2]}, "d": 1, "e": {"f": 1}}
    assert merged(base, {"a": {"c": [3]}, "d": None, "e": {"f": None}}) == {"a": {"b": 1, "c": [3]}, "e": {}}


def test_an_overridden_map_keeps_its_order() -> None:
    base = {"a": 1, "b": {"c": 1, "d": 2}, "e": 3}
    over = {"f": 4, "b": {"d": 3, "c": {}}, "a": 2}
    assert json.dumps(merged(base, over)) == json.dumps({"a": 2, "b": {"c": {}, "d": 3}, "e": 3, "f": 4})


def test_a_file_that_is_overridden_holds_what_was_said_last() -> None:
    described = service(files={"a.conf": {"template": "a.conf.j2"}})
    catalogue, problems = loaded({"api": described}, overrides={"api": {"files": {"a.conf": {"content": "x"}}}})
    assert problems == []
    assert (catalogue.services["api"].files["a.conf"].template, catalogue.services["api"].files["a.conf"].content) == (
        None,
        "x",
    )


def test_a_new_service_is_added_and_one_is_switched_off() -> None:
    catalogue, problems = loaded({"api": service()}, overrides={"api": {"enabled": False}, "extra": service()})
    assert problems == []
    assert [found.name for found in catalogue.live()] == ["extra"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
WORDS = st.sampled_from(
    ["ports", "health", "command", "environment", "files", "volumes", "targets", "depends_on", "stop"]
)


@given(st.dictionaries(st.sampled_from(["api", "new", "other"]), st.dictionaries(WORDS, JSON, max_size=3) | JSON))
def test_whatever_the_inventory_holds_is_judged_and_never_crashes(overrides: dict[str, Any]) -> None:
    loaded(AROUND, overrides=overrides)
