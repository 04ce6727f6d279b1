# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.crypto_lakehouse.platform.plugins.filter.render_services import FilterModule
from tests.unit.catalogue.descriptions import HOME, PLACES, ROLE, platform, service

render_services = FilterModule().filters()["render_services"]
PLATFORM = platform()


def rendered(**words: Any) -> dict[str, Any]:
    settings = {**PLATFORM["catalogue_settings"], **PLACES}
    given = {"secrets": PLATFORM["catalogue_secrets"], "settings": settings, "source": str(ROLE), **words}
    result: dict[str, Any] = render_services(PLATFORM["catalogue_services"], "host", "development", **given)
    return result


def test_unknown_words_of_the_inventory_end_in_one_message_that_names_all_of_them() -> None:
    overrides = {"api": {"ports": {"http": {"prot": 1}}}, "grafana": {"replica": 2}, "databse": {"replicas": 1}}
    with pytest.raises(AnsibleFilterError) as caught:
        rendered(overrides=overrides)
    message = str(caught.value)
    for part in (
        "lakehouse_services.api.ports.http.prot: unsupported key 'prot'. Remedy: write port.",
        "lakehouse_services.grafana.replica: unsupported key 'replica'. Remedy: write replicas.",
        "lakehouse_services.databse: there is no service 'databse' to override. Remedy: write database.",
    ):
        assert part in message


def test_an_unknown_target_ends_in_a_message_that_names_the_variable() -> None:
    with pytest.raises(AnsibleFilterError, match=r"lakehouse_target: 'hots' is not known\. Remedy: write host"):
        render_services({}, "hots", "development", secrets={}, settings=PLACES, source="/")


def test_a_template_that_does_not_exist_is_named(tmp_path: Path) -> None:
    described = {"api": service(files={"a.conf": {"template": "a.j2"}, "b.conf": {"source": "b.conf"}})}
    with pytest.raises(AnsibleFilterError) as caught:
        render_services(described, "host", "development", secrets={}, settings=PLACES, source=str(tmp_path))
    message = str(caught.value)
    assert f"catalogue_services.api.files[a.conf]: {tmp_path}/templates/a.j2: no such file or directory" in message
    assert f"catalogue_services.api.files[b.conf]: {tmp_path}/b.conf: no such file or directory" in message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{ nobody }}", "'nobody' is undefined"),
        ("{% if %}", "line 1: Expected an expression"),
        ("{{ 'x' | mebibytes }}", "'x' is not a quantity"),
    ],
)
def test_a_template_that_fails_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "a.j2").write_text(text, encoding="utf-8")
    described = {"api": service(files={"a.conf": {"template": "a.j2"}})}
    with pytest.raises(AnsibleFilterError, match=message):
        render_services(described, "host", "development", secrets={}, settings=PLACES, source=str(tmp_path))


def test_without_overrides_the_platform_is_rendered_as_described() -> None:
    assert rendered() == rendered(overrides=None) == rendered(overrides={})


def test_a_service_of_the_inventory_is_rendered_beside_the_platform_s() -> None:
    extra = service(command=["/opt/notebook/run"], ports={"http": {"port": 8888, "authenticated": True}})
    with pytest.raises(AnsibleFilterError, match=r"notebook \(http\) and object-store \(filer\) both listen on"):
        rendered(overrides={"notebook": extra})
    extra["ports"]["http"]["port"] = 8889
    programs = {program["name"]: program for program in rendered(overrides={"notebook": extra})["programs"]}
    assert programs["notebook"]["command"][-1:] == ["/opt/notebook/run"]
    assert programs["notebook"]["log_file"] == f"{HOME}/log/notebook.log"


def test_a_cluster_gets_objects_of_the_same_description() -> None:
    given = {"secrets": PLATFORM["catalogue_secrets"], "settings": PLATFORM["catalogue_settings"], "source": str(ROLE)}
    result = render_services(PLATFORM["catalogue_services"], "k3s", "development", **given)
    assert {"Deployment", "StatefulSet", "Job"} <= {manifest["kind"] for manifest in result["manifests"]}
    given["settings"] = {**given["settings"], "namespace": "X"}
    with pytest.raises(AnsibleFilterError, match=r"lakehouse_namespace: 'X' is not a usable name"):
        render_services(PLATFORM["catalogue_services"], "k3s", "development", **given)
