# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import configparser
import copy
import json
import shlex
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.catalogue.contents import ContentError
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.catalogue.host.layout import Place
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.catalogue.host.render import render_host
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.shared.problem import Problem
from tests.sweep import examples
from tests.unit.catalogue.descriptions import HOME, PLACES, SOFTWARE, Texts, catalogues, loaded, service

Rendered = dict[str, Any]
Drawn = tuple[dict[str, Any], dict[str, Any]]

FEW = settings(max_examples=examples(25))


def rendered(
    services: dict[str, Any], places: dict[str, Any] | None = None, texts: Texts | None = None, **words: Any
) -> tuple[Rendered, list[Problem]]:
    place, wrong_place = Place.read({**PLACES, **(places or {})})
    catalogue, problems = loaded(services, settings=PLACES, **words)
    result, more = render_host(catalogue, place, texts or Texts())
    return result, [*wrong_place, *problems, *more]


def well_rendered(services: dict[str, Any], *arguments: Any, **words: Any) -> Rendered:
    result, problems = rendered(services, *arguments, **words)
    assert problems == []
    return result


def by_path(result: Rendered) -> dict[str, str]:
    return {file["path"]: file["content"] for file in result["files"]}


def filled(text: str, name: str, words: dict[str, Any]) -> str:
    """Return the expected value of a drawn text; it is literal, or refers to one secret or one volume."""
    for secret in words["secrets"]:
        text = text.replace(f"${{secret.{secret}}}", f"{HOME}/secrets/{name}/{secret}")
    for volume, described in words["volumes"].items():
        kind = "run" if described["ephemeral"] else "data"
        text = text.replace(f"${{volume.{volume}}}", f"{HOME}/{kind}/{name}/{volume}")
    return text.replace("$${", "${")


def secrets_named(texts: list[str], family: str, words: dict[str, Any]) -> set[str]:
    """Return the secrets that drawn texts refer to; such a text consists of one reference."""
    starts = {name: (f"${{{family}.{name}}}", f"${{{family}.{name}|") for name in words["secrets"]}
    return {name for name, start in starts.items() if any(text.startswith(start) for text in texts)}


@given(catalogues())
@FEW
def test_no_program_or_argument_is_lost(drawn: Drawn) -> None:
    services, secrets = drawn
    result = well_rendered(services, secrets=secrets)
    programs = {program["name"]: program["command"] for program in [*result["programs"], *result["jobs"]]}
    assert set(programs) == set(services)
    assert {job["name"] for job in result["jobs"]} == {n for n, words in services.items() if words["kind"] == "job"}
    for name, words in services.items():
        first, *others = words["command"]
        expected = [first if "/" in first else f"{SOFTWARE}/bin/{first}"]
        expected += [filled(argument, name, words) for argument in others]
        options = ["--log-file", f"{HOME}/log/{name}.log"] if words["kind"] == "service" else []
        if words["environment"]:
            options += ["--environment-file", f"{HOME}/etc/{name}/environment"]
        if options:
            expected = [f"{SOFTWARE}/bin/lakehouse-launch", *options, "--", *expected]
        assert programs[name] == expected


@given(catalogues())
@FEW
def test_no_port_health_check_or_metric_is_lost(drawn: Drawn) -> None:
    services, secrets = drawn
    result = well_rendered(services, secrets=secrets)
    ports = {
        (port["service"], port["name"]): (port["port"], port["protocol"], port["owner"]) for port in result["ports"]
    }
    assert ports == {
        (name, port): (described["port"], described["protocol"], name)
        for name, words in services.items()
        for port, described in words["ports"].items()
    }
    timing = ("type", "interval_s", "timeout_s", "retries", "start_period_s")
    assert {check["service"]: [check[word] for word in timing] for check in result["health"]} == {
        name: [words["health"][word] for word in timing] for name, words in services.items() if "health" in words
    }
    assert {entry["service"]: entry["url"].partition("://127.0.0.1:")[2] for entry in result["metrics"]} == {
        name: f"{words['ports'][words['metrics']['port']]['port']}{words['metrics']['path']}"
        for name, words in services.items()
        if "metrics" in words
    }


@given(catalogues())
@FEW
def test_no_file_variable_or_volume_is_lost(drawn: Drawn) -> None:
    services, secrets = drawn
    result = well_rendered(services, secrets=secrets)
    contents, folders = by_path(result), {directory["path"] for directory in result["directories"]}
    for name, words in services.items():
        for file, described in words["files"].items():
            assert contents[f"{HOME}/etc/{name}/{file}"] == filled(described["content"], name, words)
        environment = {variable: filled(value, name, words) for variable, value in words["environment"].items()}
        lines = "".join(f"{variable}={environment[variable]}\n" for variable in sorted(environment))
        assert contents.get(f"{HOME}/etc/{name}/environment", "") == lines
        volumes = {filled(f"${{volume.{volume}}}", name, words) for volume in words["volumes"]}
        assert volumes <= folders


@given(catalogues())
@FEW
def test_no_secret_is_lost_and_none_is_given_to_anybody_else(drawn: Drawn) -> None:
    services, secrets = drawn
    result = well_rendered(services, secrets=secrets)
    files, readers = set(), {(secret["name"], reader) for secret in result["secrets"] for reader in secret["services"]}
    expected = set()
    for name, words in services.items():
        commands = [*words["command"], *words.get("health", {}).get("command", [])]
        by_file = secrets_named(commands, "secret", words)
        asked = {
            (word, words[word]["authentication"]["secret"])
            for word in ("metrics", "health")
            if "authentication" in words.get(word, {})
        }
        values = secrets_named(list(words["environment"].values()), "secret_value", words)
        files |= {(name, secret) for secret in by_file}
        files |= {(name, secret) for word, secret in asked if word == "health"}
        expected |= {(secret, name) for secret in by_file | values | {secret for _word, secret in asked}}
    assert {(file["service"], file["secret"]) for file in result["secret_files"]} == files
    assert readers == expected
    assert all(file["path"] == f"{HOME}/secrets/{file['service']}/{file['secret']}" for file in result["secret_files"])


@given(catalogues())
@FEW
def test_every_program_that_the_supervisor_reads_is_the_one_that_was_rendered(drawn: Drawn) -> None:
    services, secrets = drawn
    result = well_rendered(services, secrets=secrets)
    contents = by_path(result)
    for program in result["programs"]:
        name = program["name"]
        conf = configparser.RawConfigParser(inline_comment_prefixes=(";", "#"), strict=False)
        conf.read_string(contents[f"{HOME}/etc/supervisor/programs/{name}.conf"])
        words = conf[f"program:{name}"]
        assert shlex.split(words["command"] % {}) == program["command"]
        stop = services[name]["stop"]
        assert (words["stopsignal"], int(words["stopwaitsecs"])) == (stop["signal"], stop["timeout_s"])
        assert words["stopasgroup"] == str(stop["group"]).lower()
        assert {path for path in contents if path.startswith(f"{HOME}/etc/{name}/")} <= set(program["paths"])


@given(catalogues())
@FEW
def test_the_same_description_gives_the_same_result_in_any_order(drawn: Drawn) -> None:
    services, secrets = drawn
    backwards = {name: dict(reversed(words.items())) for name, words in reversed(services.items())}
    untouched = copy.deepcopy(services)
    first = json.dumps(well_rendered(services, secrets=secrets), sort_keys=True)
    assert first == json.dumps(well_rendered(backwards, secrets=secrets), sort_keys=True)
    assert services == untouched


@given(catalogues())
@FEW
def test_everything_lies_below_the_home_and_is_closed_to_others(drawn: Drawn) -> None:
    services, secrets = drawn
    result = well_rendered(services, secrets=secrets)
    folders = {directory["path"] for directory in result["directories"]}
    for entry in [*result["files"], *result["secret_files"]]:
        assert entry["path"].startswith(f"{HOME}/")
        assert entry["path"].rpartition("/")[0] in folders
    for folder in folders:
        assert folder.rpartition("/")[0] in {HOME, *folders}
    assert {file["mode"] for file in result["files"]} == {"0600"}
    assert {directory["mode"] for directory in result["directories"]} == {"0700"}
    assert len(folders) == len(result["directories"])


@given(catalogues(), st.integers(0, 40000))
@FEW
def test_a_port_is_moved_by_the_offset_or_refused_and_never_on_another_address(drawn: Drawn, offset: int) -> None:
    services, secrets = drawn
    result, problems = rendered(services, {"port_offset": offset, "bind_address": "192.0.2.7"}, secrets=secrets)
    for port in result["ports"]:
        described = services[port["service"]]["ports"][port["name"]]
        assert port["port"] == described["port"] + offset
        assert port["address"] == ("192.0.2.7" if described["expose"] else "127.0.0.1")
    assert len(problems) == sum(port["port"] > 65535 for port in result["ports"])


def test_two_services_on_one_port_are_both_named() -> None:
    services = {
        "api": service(ports={"http": {"port": 8080}}),
        "web": service(ports={"page": {"port": 8080, "authenticated": True, "expose": True}}),
        "udp": service(ports={"page": {"port": 8080, "protocol": "udp"}}),
    }
    _result, problems = rendered(services, {"port_offset": 1000})
    assert problems == [
        Problem(
            "catalogue_services.web.ports.page.port",
            "api (http) and web (page) both listen on 127.0.0.1:9080",
            "give one of them another port",
        )
    ]
    assert rendered(services, {"bind_address": "192.0.2.7"})[1] == []
    assert len(rendered(services, {"bind_address": "0.0.0.0"})[1]) == 1  # noqa: S104


def test_a_port_beyond_the_last_is_refused_after_the_offset() -> None:
    _result, problems = rendered({"api": service(ports={"http": {"port": 60000}})}, {"port_offset": 40000})
    assert [(problem.message, problem.remedy) for problem in problems] == [
        ("100000 is not a port", "lower it, or lower lakehouse_port_offset")
    ]


@pytest.mark.parametrize(
    ("places", "variable", "message"),
    [
        ({"home": "srv"}, "lakehouse_home", "'srv' is not an absolute path"),
        ({"home": "/srv/a ;b"}, "lakehouse_home", "the process manager cannot use the path '/srv/a ;b'"),
        ({"bind_address": "::1"}, "lakehouse_bind_address", "'::1' is not an IPv4 address"),
        ({"port_offset": "x"}, "lakehouse_port_offset", "'x' is not a whole number"),
        ({"port_offset": True}, "lakehouse_port_offset", "True is not a whole number"),
    ],
)
def test_a_place_that_cannot_be_used_is_named(places: dict[str, Any], variable: str, message: str) -> None:
    _result, problems = rendered({}, places)
    assert [(problem.variable, problem.message) for problem in problems] == [(variable, message)]


def test_a_wrong_placeholder_names_service_place_and_nearest_name() -> None:
    services = {
        "api": service(
            ports={"http": {"port": 1}}, environment={"A": "${port.htp}"}, command=["x", "${secret_value.known}"]
        ),
        "web": service(files={"a.conf": {"template": "a"}}, health={"type": "command", "command": ["${volume.x}"]}),
    }
    _result, problems = rendered(services, texts=Texts(a="${service.api.port.http} ${service.ap.host}"))
    assert [(problem.variable, problem.message, problem.remedy) for problem in sorted(problems)] == [
        (
            "catalogue_services.api.command[1]",
            "${secret_value.known} would show a secret to every user of the machine",
            "name its file instead: ${secret.known}",
        ),
        ("catalogue_services.api.environment.A", "${port.htp} is not known", "write port.http"),
        ("catalogue_services.web.files[a.conf].template", "${service.ap.host} is not known", "write service.api.host"),
        (
            "catalogue_services.web.health.command[0]",
            "${volume.x} is not known",
            "see the list of placeholders in the role's README",
        ),
    ]


def test_a_service_that_cannot_be_read_is_not_reported_again_by_those_that_name_it() -> None:
    services = {
        "api": service(ports={"http": {"prot": 1}}),
        "web": service(command=["x", "${service.api.port.http}", "${service.apy.host}"]),
    }
    _result, problems = rendered(services)
    assert {problem.variable for problem in problems} == {
        "catalogue_services.api.ports.http.prot",
        "catalogue_services.web.command[2]",
    }


def test_a_text_that_cannot_be_had_is_reported_and_the_rest_is_rendered() -> None:
    class Broken(Texts):
        def source(self, path: str) -> str:
            raise ContentError(f"{path}: no such file", "name a file that exists")

    services = {"api": service(files={"a": {"source": "x"}, "b": {"content": "y"}})}
    result, problems = rendered(services, texts=Broken())
    assert problems == [Problem("catalogue_services.api.files.a", "x: no such file", "name a file that exists")]
    assert by_path(result)[f"{HOME}/etc/api/b"] == "y"


def test_a_copied_file_stays_as_it_is_and_may_not_smuggle_a_secret() -> None:
    services = {"api": service(secrets=["known"], files={"a": {"source": "x"}})}
    result = well_rendered(services, texts=Texts(x="{{ $labels.job }} ${__interval} $${x}"))
    assert by_path(result)[f"{HOME}/etc/api/a"] == "{{ $labels.job }} ${__interval} $${x}"
    _result, problems = rendered(services, texts=Texts(x="${secret_value.known}"))
    assert [problem.message for problem in problems] == ["a copied file holds the marker of a secret"]


def test_a_provided_service_has_ports_and_health_but_no_program() -> None:
    services = {
        "store": service(command=["serve", "${service.catalog.port.http}"]),
        "catalog": service(
            command=[],
            provided_by="store",
            ports={"http": {"port": 8181}},
            health={"type": "http", "port": "http", "path": "/v1"},
        ),
    }
    result = well_rendered(services)
    assert [program["name"] for program in result["programs"]] == ["store"]
    assert result["programs"][0]["command"][-2:] == [f"{SOFTWARE}/bin/serve", "8181"]
    assert [(port["service"], port["owner"]) for port in result["ports"]] == [("catalog", "store")]
    assert result["health"][0]["url"] == "http://127.0.0.1:8181/v1"


def test_what_the_machine_cannot_have_leaves_its_files_and_says_why() -> None:
    services = {
        "grafana": service(
            files={"board.json": {"content": "{}"}},
            ports={"http": {"port": 3000}},
            metrics={"port": "http"},
            health={"type": "tcp", "port": "http"},
        ),
        "part": service(command=[], provided_by="grafana"),
        "off": service(enabled=False),
        "cloud": service(managed={"host": "s3"}),
        "scraper": service(files={"list": {"template": "t"}}),
    }
    result = well_rendered(services, {"unavailable": {"grafana": "no package"}}, texts=Texts(t="x"))
    assert result["omitted"] == [
        {"service": "cloud", "reason": "provided by s3"},
        {"service": "grafana", "reason": "no package"},
        {"service": "off", "reason": "switched off"},
        {"service": "part", "reason": "grafana is left out"},
    ]
    assert [program["name"] for program in result["programs"]] == ["scraper"]
    assert (result["ports"], result["health"], result["metrics"]) == ([], [], [])
    assert by_path(result)[f"{HOME}/etc/grafana/board.json"] == "{}"


def test_the_record_of_incomplete_work_of_a_job_lies_on_the_machine() -> None:
    services = {
        "database": service(volumes={"data": {"path": "/data"}}),
        "restore": service(kind="job", incomplete="${service.database.volume.data}/restore.json"),
        "verify": service(kind="job"),
    }
    path = f"{HOME}/data/database/data/restore.json"
    assert well_rendered(services)["incomplete"] == [{"service": "restore", "path": path}]


def test_programs_start_after_what_they_need() -> None:
    services = {
        "a": service(depends_on=["c", "b"]),
        "b": service(depends_on=["c"]),
        "c": service(),
        "d": service(),
        "job": service(kind="job", depends_on=["b"]),
    }
    result = well_rendered(services)
    assert [(program["name"], program["start_order"]) for program in result["programs"]] == [
        ("c", 0),
        ("d", 0),
        ("b", 1),
        ("a", 2),
    ]
    assert [(job["name"], job["start_order"]) for job in result["jobs"]] == [("job", 2)]


def test_one_process_runs_whatever_the_replicas_and_this_is_said() -> None:
    result = well_rendered({"api": service(replicas=3)})
    assert len(result["programs"]) == 1
    assert [
        (notice["service"], "one process runs instead of 3" in notice["message"]) for notice in result["notices"]
    ] == [("api", True)]


def test_one_that_scrapes_may_read_what_the_metrics_of_others_ask_for() -> None:
    protected = {"port": "http", "authentication": {"username": "u", "secret": "known"}}
    services = {
        "api": service(ports={"http": {"port": 1}}, metrics=protected),
        "scraper": service(scrapes=True, command=["x", "${secret.known}"]),
        "other": service(command=["x", "${secret.known}"]),
    }
    result, problems = rendered(services)
    assert [problem.variable for problem in problems] == ["catalogue_services.other.command[1]"]
    assert {"path": f"{HOME}/secrets/scraper/known", "secret": "known", "service": "scraper"} in result["secret_files"]
    assert result["secrets"] == [
        {
            "name": "known",
            "kind": "password",
            "length": None,
            "of": None,
            "optional": False,
            "services": ["api", "scraper"],
        }
    ]


def test_a_derived_secret_brings_along_its_source_and_nobody_gets_what_nobody_reads() -> None:
    secrets = {"hash": {"kind": "bcrypt", "of": "known"}, "unused": {}}
    services = {"api": service(secrets=["hash", "unused"], environment={"A": "${secret_value.hash}"})}
    result = well_rendered(services, secrets=secrets)
    assert [(secret["name"], secret["services"]) for secret in result["secrets"]] == [("hash", ["api"]), ("known", [])]


def test_initialisation_is_a_step_with_the_environment_of_its_service() -> None:
    start = {"command": ["initdb", "${volume.data}"], "creates": "${volume.data}/VERSION"}
    services = {"database": service(initialise=start, environment={"TZ": "UTC"}, volumes={"data": {"path": "/data"}})}
    result = well_rendered(services)
    data = f"{HOME}/data/database/data"
    launch = [f"{SOFTWARE}/bin/lakehouse-launch", "--environment-file", f"{HOME}/etc/database/environment", "--"]
    assert result["initialise"] == [
        {"service": "database", "command": [*launch, f"{SOFTWARE}/bin/initdb", data], "creates": f"{data}/VERSION"}
    ]


def test_addresses_and_folders_are_known_by_name() -> None:
    services = {
        "api": service(
            ports={"http": {"port": 80, "authenticated": True, "expose": True}, "inner": {"port": 81}},
            files={"conf.d/a/x.conf": {"content": ""}},
            command=[
                "${address}",
                "${address.http}",
                "${address.inner}",
                "${endpoint.inner}",
                "${folder.conf.d}",
                "${file.conf.d/a/x.conf}",
            ],
        ),
        "web": service(
            command=[
                "x",
                "${service.api.host}",
                "${service.api.endpoint.http}",
                "${service.api.endpoint.inner}",
                "${setting.user}",
            ],
        ),
    }
    result = well_rendered(services, {"bind_address": "0.0.0.0"})  # noqa: S104
    api, web = (program["command"] for program in result["programs"])
    etc = f"{HOME}/etc/api"
    assert api[-5:] == ["0.0.0.0", "127.0.0.1", "127.0.0.1:81", f"{etc}/conf.d", f"{etc}/conf.d/a/x.conf"]  # noqa: S104
    assert web[-4:] == ["127.0.0.1", "127.0.0.1:80", "127.0.0.1:81", "lakehouse"]


def test_the_one_process_of_a_service_has_its_name() -> None:
    (program,) = well_rendered({"worker": service(command=["x", "--name=${instance}"])})["programs"]
    assert program["command"][-1] == "--name=worker"
