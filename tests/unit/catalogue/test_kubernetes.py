# SPDX-License-Identifier: GPL-3.0-or-later
"""Kubernetes objects of every description: they are complete, and reach no other recipient."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

from hypothesis import given, settings

from tests.sweep import examples
from tests.unit.catalogue.clusters import (
    NAMESPACE,
    Drawn,
    Entry,
    cluster_catalogues,
    container,
    everything,
    of_kind,
    on_cluster,
    pods,
    well_rendered,
    workloads,
)
from tests.unit.catalogue.descriptions import Texts

FEW = settings(max_examples=examples(25))
NAMED = re.compile(r"\$\{secret(?:_value)?\.([a-z0-9_]+)[|}]")
MARKER = re.compile(r"\$\{secret_value\.([a-z0-9_]+)(\|url|\|json)?\}")


def filled(text: str, words: Entry) -> str:
    """Return the expected value of a drawn text; it is literal, or refers to one secret or one volume."""
    for secret in words["secrets"]:
        text = text.replace(f"${{secret.{secret}}}", f"/run/lakehouse/secrets/{secret}")
    for volume, described in words["volumes"].items():
        text = text.replace(f"${{volume.{volume}}}", described["path"])
    return text.replace("$${", "${")


def expanded(text: str, variables: Entry) -> str:
    """Return the value that a container gets for a text: the rules of the kubelet's expansion."""
    out, rest = "", text
    while rest:
        head, dollar, rest = rest.partition("$")
        out += head
        if dollar and rest.startswith("$"):
            out, rest = f"{out}$", rest[1:]
        elif dollar and rest.startswith("(") and ")" in rest:
            name, _end, rest = rest[1:].partition(")")
            out += variables.get(name, f"$({name})")
        elif dollar:
            out += "$"
    return out


def seen_files(result: Entry, name: str) -> dict[str, str]:
    """Return the files that a pod's containers see below the folder of files, composed as the kubelet does."""
    data = {("configMap", each): found["data"] for each, found in of_kind(result, "ConfigMap").items()}
    data |= {("secret", each): found["stringData"] for each, found in of_kind(result, "Secret").items()}
    found = {}
    for volume in pods(result)[name]["volumes"]:
        for source in volume.get("projected", {}).get("sources", []):
            ((kind, projected),) = source.items()
            for item in projected["items"]:
                assert item["path"] not in found
                found[item["path"]] = data[kind, projected["name"]][item["key"]]
    return found


@given(cluster_catalogues())
@FEW
def test_no_program_or_argument_is_lost(drawn: Drawn) -> None:
    services, secrets = drawn
    result = well_rendered(services, secrets=secrets)
    assert set(workloads(result)) == set(services)
    for name, words in services.items():
        assert (workloads(result)[name]["kind"] == "Job") == (words["kind"] == "job")
        got = [expanded(word, {}) for word in container(result, name)["command"]]
        assert got == [filled(word, words) for word in words["command"]]
        assert container(result, name)["image"] == words["image"]


@given(cluster_catalogues())
@FEW
def test_no_port_is_lost(drawn: Drawn) -> None:
    services, secrets = drawn
    result = well_rendered(services, secrets=secrets)
    for name, words in services.items():
        described = {(port["port"], port["protocol"].upper()) for port in words["ports"].values()}
        opened = container(result, name).get("ports", [])
        assert {(port["containerPort"], port["protocol"]) for port in opened} == described
        found = of_kind(result, "Service").get(name, {"spec": {"ports": []}})["spec"]["ports"]
        assert {(port["name"], port["port"], port["protocol"]) for port in found} == {
            (port, words["ports"][port]["port"], words["ports"][port]["protocol"].upper()) for port in words["ports"]
        }
        assert all(port["targetPort"] == port["port"] for port in found)


@given(cluster_catalogues())
@FEW
def test_no_health_check_or_metric_is_lost(drawn: Drawn) -> None:
    services, secrets = drawn
    result = well_rendered(services, secrets=secrets)
    checks = {check["service"]: check for check in result["health"]}
    assert set(checks) == {name for name, words in services.items() if "health" in words}
    for name, words in services.items():
        probes = {word: probe for word, probe in container(result, name).items() if word.endswith("Probe")}
        if words["kind"] == "job" or "health" not in words:
            assert probes == {}
            continue
        health = words["health"]
        assert set(probes) == {"startupProbe", "readinessProbe", "livenessProbe"}
        for probe in probes.values():
            assert (probe["periodSeconds"], probe["timeoutSeconds"]) == (health["interval_s"], health["timeout_s"])
        assert probes["readinessProbe"]["failureThreshold"] == health["retries"]
        starting = probes["startupProbe"]
        assert starting["failureThreshold"] * starting["periodSeconds"] >= health["start_period_s"]
    scraped = {name for name, words in services.items() if "metrics" in words}
    assert set(of_kind(result, "ServiceMonitor")) == scraped
    for name, monitor in of_kind(result, "ServiceMonitor").items():
        (endpoint,) = monitor["spec"]["endpoints"]
        metrics = services[name]["metrics"]
        assert (endpoint["port"], endpoint["path"]) == (metrics["port"], metrics["path"])
        assert ("basicAuth" in endpoint) == ("authentication" in metrics)


@given(cluster_catalogues())
@FEW
def test_no_file_variable_or_volume_is_lost(drawn: Drawn) -> None:
    services, secrets = drawn
    result = well_rendered(services, secrets=secrets)
    kept = {name: found["stringData"] for name, found in of_kind(result, "Secret").items()}
    for name, words in services.items():
        files = {file: filled(described["content"], words) for file, described in words["files"].items()}
        assert seen_files(result, name) == files
        variables = {}
        for variable in container(result, name).get("env", []):
            key = variable.get("valueFrom", {}).get("secretKeyRef")
            value = kept[key["name"]][key["key"]] if key else expanded(variable["value"], {})
            assert bool(key) == bool(MARKER.search(value))
            variables[variable["name"]] = value
        assert variables == {variable: filled(text, words) for variable, text in words["environment"].items()}
        mounts = {mount["mountPath"]: mount["name"] for mount in container(result, name)["volumeMounts"]}
        assert {
            volume["path"]: volume_name for volume_name, volume in words["volumes"].items()
        }.items() <= mounts.items()
        claims = {
            claim["metadata"]["name"] for claim in workloads(result)[name]["spec"].get("volumeClaimTemplates", [])
        }
        if words["kind"] == "service":
            assert claims == {each for each, volume in words["volumes"].items() if not volume["ephemeral"]}


@given(cluster_catalogues())
@FEW
def test_no_secret_is_lost_and_none_is_given_to_anybody_else(drawn: Drawn) -> None:
    services, secrets = drawn
    result = well_rendered(services, secrets=secrets)
    objects = of_kind(result, "Secret")
    read = {(secret["name"], reader) for secret in result["secrets"] for reader in secret["services"]}
    for name, words in services.items():
        texts = [*words["command"], *words.get("health", {}).get("command", []), *words["environment"].values()]
        used = {match[1] for text in texts if (match := NAMED.match(text)) and match[1] in words["secrets"]}
        looked = {
            words[word]["authentication"]["secret"]
            for word in ("metrics", "health")
            if "authentication" in words.get(word, {})
        }
        assert {secret for secret, reader in read if reader == name} == used | looked
        held = {
            match[1]
            for text in objects.get(name, {"stringData": {}})["stringData"].values()
            for match in MARKER.finditer(text)
        }
        assert held <= used | looked
        names = {volume["secret"]["secretName"] for volume in pods(result)[name]["volumes"] if "secret" in volume}
        assert names <= {name}
    for each in everything(result):
        if each["kind"] != "Secret":
            assert not MARKER.search(json.dumps(each))


@given(cluster_catalogues())
@FEW
def test_the_same_description_gives_the_same_result_in_any_order(drawn: Drawn) -> None:
    services, secrets = drawn
    backwards = {name: dict(reversed(words.items())) for name, words in reversed(services.items())}
    untouched = copy.deepcopy(services)
    first = json.dumps(well_rendered(services, secrets=secrets), sort_keys=True)
    assert first == json.dumps(well_rendered(backwards, secrets=secrets), sort_keys=True)
    assert services == untouched


@given(cluster_catalogues())
@FEW
def test_every_object_has_a_name_of_its_own_and_the_labels_of_the_platform(drawn: Drawn) -> None:
    services, secrets = drawn
    result = well_rendered(services, secrets=secrets)
    names = [(each["kind"], each["metadata"]["name"]) for each in everything(result)]
    assert len(names) == len(set(names))
    for each in everything(result):
        assert each["metadata"]["labels"]["app.kubernetes.io/part-of"] == "crypto-lakehouse"
        place = each["metadata"].get("namespace")
        assert place == (None if each["kind"] in ("Namespace", "PriorityClass") else NAMESPACE)


def notes(result: Entry, name: str = "api") -> Any:
    return workloads(result)[name]["spec"]["template"]["metadata"].get("annotations", {})


def test_a_changed_file_or_a_rotated_secret_rolls_what_reads_it_and_nothing_else() -> None:
    secret = {"secrets": ["known"], "environment": {"A": "${secret_value.known}"}}
    services = {
        "api": on_cluster(files={"a": {"content": "one"}}, **secret),
        "web": on_cluster(**secret),
        "idle": on_cluster(),
    }
    before = well_rendered(services)
    services["api"]["files"] = {"a": {"content": "two"}}
    changed, rotated = well_rendered(services), well_rendered(services, {"secret_versions": {"known": "2"}})
    assert notes(before)["lakehouse/configuration"] != notes(changed)["lakehouse/configuration"]
    assert notes(before)["lakehouse/secrets"] == notes(changed)["lakehouse/secrets"]
    assert notes(before, "web") == notes(changed, "web") != notes(rotated, "web")
    assert notes(rotated, "idle") == {}


def test_a_job_has_another_name_when_its_content_is_another_one_and_only_then() -> None:
    def name(result: Entry) -> str:
        return str(workloads(result)["load"]["metadata"]["name"])

    services = {"load": on_cluster(kind="job", secrets=["known"], environment={"A": "${secret_value.known}"})}
    first, again = well_rendered(services), well_rendered(services)
    rotated = well_rendered(services, {"secret_versions": {"known": "2"}})
    assert re.fullmatch(r"load-[0-9a-f]{8}", name(first))
    assert name(first) == name(again) != name(rotated)
    # The next run would create a Job that deletes itself again, although nothing else changes.
    assert "ttlSecondsAfterFinished" not in workloads(first)["load"]["spec"]


def test_a_job_that_is_run_on_demand_is_kept_apart_with_what_it_needs_in_place() -> None:
    check = on_cluster(kind="job", on_demand=True, secrets=["known"], environment={"A": "${secret_value.known}"})
    result = well_rendered({"check": check})
    assert "Job" not in {each["kind"] for each in result["manifests"]}
    assert result["jobs"]["check"]["spec"]["ttlSecondsAfterFinished"] > 0
    present = {each["kind"] for each in result["manifests"] if each["metadata"]["name"] == "check"}
    assert present == {"NetworkPolicy", "Secret", "ServiceAccount"}


def test_the_pod_s_name_is_put_into_commands_and_variables_and_a_literal_stays_literal() -> None:
    words = on_cluster(
        command=["run", "--name=${instance}", "$(HOME)", "$$(X)", "$1"], environment={"A": "${instance}"}
    )
    result = well_rendered({"api": words})
    got = container(result, "api")
    variables = {entry["name"]: entry for entry in got["env"]}
    assert next(entry["name"] for entry in got["env"]) == "LAKEHOUSE_POD_NAME"
    pod = {"LAKEHOUSE_POD_NAME": "api-0", "HOME": "/wrong", "X": "wrong"}
    assert [expanded(word, pod) for word in got["command"]] == ["run", "--name=api-0", "$(HOME)", "$$(X)", "$1"]
    assert expanded(variables["A"]["value"], pod) == "api-0"


def test_files_whose_folders_fall_away_in_keys_do_not_overwrite_each_other() -> None:
    files = {name: {"content": name} for name in ("a/b.conf", "a.b.conf", "a/c", "d")}
    result = well_rendered({"api": on_cluster(files=files)})
    assert seen_files(result, "api") == {name: name for name in files}


def test_files_with_secrets_are_in_a_secret_and_the_others_in_plain_sight() -> None:
    files = {"a": {"template": "a"}, "b": {"content": "${secret_value.known|json}"}}
    result = well_rendered({"api": on_cluster(files=files, secrets=["known"])}, texts=Texts(a="plain"))
    assert of_kind(result, "ConfigMap")["api"]["data"] == {"a": "api: plain"}
    assert of_kind(result, "Secret")["api"]["stringData"] == {"file.b": "${secret_value.known|json}"}


def test_a_step_before_the_first_start_is_run_once_by_a_container_of_its_own() -> None:
    start = {"command": ["initdb", "${volume.data}"], "creates": "${volume.data}/VERSION"}
    result = well_rendered({"db": on_cluster(initialise=start, volumes={"data": {"path": "/data"}})})
    (first,) = pods(result)["db"]["initContainers"]
    assert first["command"][-4:] == ["initialise", "/data/VERSION", "initdb", "/data"]
    assert first["securityContext"] == container(result, "db")["securityContext"]
    assert first["volumeMounts"] == container(result, "db")["volumeMounts"]


def test_what_outlives_its_process_has_claims_and_a_name_of_its_own_for_each_pod() -> None:
    volumes = {"data": {"path": "/data", "size": "5Gi"}, "run": {"path": "/run/x", "size": "1Gi", "ephemeral": True}}
    result = well_rendered({"db": on_cluster(volumes=volumes, ports={"http": {"port": 80}})}, {"storage_class": "fast"})
    spec = workloads(result)["db"]["spec"]
    assert of_kind(result, "Service")[spec["serviceName"]]["spec"]["clusterIP"] == "None"
    (claim,) = spec["volumeClaimTemplates"]
    assert claim["spec"]["storageClassName"] == "fast"
    assert claim["spec"]["resources"] == {"requests": {"storage": "5Gi"}}
    assert {"name": "run", "emptyDir": {"sizeLimit": "1Gi"}} in pods(result)["db"]["volumes"]


def test_an_autoscaler_s_number_of_pods_is_not_stated() -> None:
    services = {"api": on_cluster(replicas=3), "web": on_cluster(replicas=3), "one": on_cluster()}
    result = well_rendered(services, {"autoscaled": ["api"]})
    assert "replicas" not in workloads(result)["api"]["spec"]
    assert workloads(result)["web"]["spec"]["replicas"] == 3
    assert set(of_kind(result, "PodDisruptionBudget")) == {"api", "web"}
    assert {name for name, pod in pods(result).items() if "topologySpreadConstraints" in pod} == {"api", "web"}
    assert {found["service"]: found["replicas"] for found in result["workloads"]} == {"api": None, "one": 1, "web": 3}


def test_a_password_is_never_in_a_probe_and_that_the_kubelet_sees_less_is_said() -> None:
    secret = {"username": "someone", "secret": "known"}
    health = {"type": "http", "port": "http", "path": "/ready", "live_path": "/live", "authentication": secret}
    words = on_cluster(ports={"http": {"port": 80}}, health=health)
    result = well_rendered({"api": words})
    assert container(result, "api")["readinessProbe"]["tcpSocket"] == {"port": 80}
    assert [(notice["service"], "asks for a password" in notice["message"]) for notice in result["notices"]] == [
        ("api", True)
    ]
    (check,) = result["health"]
    assert (check["url"], check["username"], check["secret"]) == (
        f"http://api.{NAMESPACE}.svc:80/ready",
        "someone",
        "known",
    )
    del health["authentication"]
    open_result = well_rendered({"api": words})
    assert container(open_result, "api")["readinessProbe"]["httpGet"] == {"path": "/ready", "port": 80}
    assert container(open_result, "api")["livenessProbe"]["httpGet"] == {"path": "/live", "port": 80}
    assert open_result["notices"] == []


def test_what_a_service_depends_on_is_no_reason_to_restart_it() -> None:
    health = {"type": "http", "port": "http", "path": "/ready"}
    result = well_rendered({"api": on_cluster(ports={"http": {"port": 80}}, health=health)})
    assert container(result, "api")["readinessProbe"]["httpGet"] == {"path": "/ready", "port": 80}
    assert container(result, "api")["livenessProbe"]["tcpSocket"] == {"port": 80}


def test_a_process_is_asked_to_end_by_its_signal_and_has_its_time_for_it() -> None:
    result = well_rendered({"db": on_cluster(stop={"signal": "INT", "timeout_s": 90}), "api": on_cluster()})
    assert pods(result)["db"]["terminationGracePeriodSeconds"] == 90
    assert container(result, "db")["lifecycle"]["preStop"]["exec"]["command"][-1] == "kill -s INT 1"
    assert "lifecycle" not in container(result, "api")


def test_replicas_still_answer_while_others_learn_that_they_go() -> None:
    result = well_rendered({"api": on_cluster(replicas=2, ports={"http": {"port": 80}}, stop={"timeout_s": 20})})
    assert container(result, "api")["lifecycle"]["preStop"] == {"sleep": {"seconds": 5}}
    assert pods(result)["api"]["terminationGracePeriodSeconds"] == 25


def test_every_pod_may_do_next_to_nothing() -> None:
    result = well_rendered({"api": on_cluster(ports={"http": {"port": 80}}), "load": on_cluster(kind="job", user=999)})
    for name, user in (("api", 10001), ("load", 999)):
        pod = pods(result)[name]
        assert pod["automountServiceAccountToken"] is False
        assert (pod["securityContext"]["runAsUser"], pod["securityContext"]["runAsNonRoot"]) == (user, True)
        security = container(result, name)["securityContext"]
        assert (security["readOnlyRootFilesystem"], security["capabilities"]) == (True, {"drop": ["ALL"]})
    # A port below 1024 needs no capability this way.
    assert pods(result)["api"]["securityContext"]["sysctls"][0]["value"] == "0"
    accounts = of_kind(result, "ServiceAccount")
    assert set(accounts) == {"api", "load"}
    assert not any(account["automountServiceAccountToken"] for account in accounts.values())


def test_a_service_that_another_process_serves_has_an_address_and_no_pods() -> None:
    services = {
        "store": on_cluster(command=["serve", "${service.catalog.port.http}"]),
        "catalog": on_cluster(command=[], provided_by="store", ports={"http": {"port": 8181}}),
        "client": on_cluster(command=["x", "${service.catalog.endpoint.http}"]),
    }
    result = well_rendered(services)
    assert set(workloads(result)) == {"store", "client"}
    selector = of_kind(result, "Service")["catalog"]["spec"]["selector"]
    assert selector == workloads(result)["store"]["spec"]["selector"]["matchLabels"]
    assert container(result, "client")["command"][1] == f"catalog.{NAMESPACE}.svc:8181"
    assert container(result, "store")["ports"] == [{"containerPort": 8181, "protocol": "TCP"}]


def test_addresses_and_folders_are_known_by_name() -> None:
    words = ["${address}", "${address.http}", "${endpoint.http}", "${port.http}", "${folder.conf.d}", "${volume.run}"]
    api = on_cluster(
        command=["serve", *words, "${secret.known}", "${file.conf.d/x}"],
        ports={"http": {"port": 8080}},
        files={"conf.d/x": {"content": ""}},
        volumes={"run": {"path": "/run/api", "ephemeral": True}},
        secrets=["known"],
    )
    result = well_rendered({"api": api})
    everywhere = "0.0.0.0"  # noqa: S104 - what a pod's own address is called
    assert container(result, "api")["command"][1:] == [
        *(everywhere, everywhere, f"api.{NAMESPACE}.svc:8080", "8080", "/etc/lakehouse/conf.d", "/run/api"),
        *("/run/lakehouse/secrets/known", "/etc/lakehouse/conf.d/x"),
    ]
