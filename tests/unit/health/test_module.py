# SPDX-License-Identifier: GPL-3.0-or-later
"""The module: its results, its failures, and no changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.testing import patch_module_args

from ansible_collections.crypto_lakehouse.platform.plugins.doc_fragments import kubernetes
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.health.report import LAYERS
from ansible_collections.crypto_lakehouse.platform.plugins.modules import lakehouse_health

DOCUMENTED = (
    yaml.safe_load(lakehouse_health.DOCUMENTATION)["options"]
    | yaml.safe_load(kubernetes.ModuleDocFragment.DOCUMENTATION)["options"]
)


def result(capsys: pytest.CaptureFixture[str], **options: Any) -> tuple[dict[str, Any], int]:
    with patch_module_args(options), pytest.raises(SystemExit) as ended:
        lakehouse_health.main()
    # AnsibleModule's result is the last line, after its warnings.
    returned: dict[str, Any] = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    code = ended.value.code
    assert isinstance(code, int)
    return returned, code


def test_it_fails_and_names_what_is_unhealthy_and_what_to_do(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    returned, code = result(capsys, home=str(tmp_path))
    assert code == 1
    assert returned["failed"] is True
    assert returned["changed"] is False
    assert "supervisor/supervisord" in returned["unhealthy"]
    assert "supervisor/supervisord: supervisord does not run" in returned["msg"]
    assert f"Next: deploy again; tail -n 50 {tmp_path}/log/supervisord.log" in returned["msg"]


@pytest.mark.parametrize("check_mode", [False, True])
def test_it_reports_without_failing_when_it_is_told_to(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, check_mode: bool
) -> None:
    before = list(tmp_path.iterdir())
    returned, code = result(capsys, home=str(tmp_path), fail_on_unhealthy=False, _ansible_check_mode=check_mode)
    assert code == 0
    assert (returned["changed"], returned["healthy"]) == (False, False)
    assert {check["layer"] for check in returned["checks"]} <= set(LAYERS)
    assert returned["table"].startswith("STATUS")
    assert list(tmp_path.iterdir()) == before


def test_a_target_that_is_not_known_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    returned, code = result(capsys, home=str(tmp_path), target="mainframe")
    assert code == 1
    assert "mainframe" in returned["msg"]


def test_a_host_without_its_folder_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    returned, code = result(capsys)
    assert code == 1
    assert "home" in returned["msg"]


def test_a_cluster_that_cannot_be_found_is_unhealthy_and_the_reason_is_told(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    returned, code = result(capsys, target="k3s", kubeconfig=str(tmp_path / "missing"))
    assert code == 1
    assert returned["unhealthy"] == ["cluster/api-server"]
    assert f"{tmp_path}/missing" in returned["msg"]


def test_the_documentation_returns_what_the_module_returns(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    documented = yaml.safe_load(lakehouse_health.RETURN)
    returned, _status = result(capsys, home=str(tmp_path), fail_on_unhealthy=False)
    assert set(documented) == set(returned) - {"changed", "invocation"}
    assert set(documented["checks"]["contains"]) == set(returned["checks"][0])


def test_the_documentation_describes_the_options_that_there_are() -> None:
    specification = lakehouse_health.argument_spec()
    assert set(DOCUMENTED) == set(specification)
    for name, option in specification.items():
        words = ("type", "elements", "default", "choices", "required")
        assert {word: DOCUMENTED[name].get(word) for word in words} == {word: option.get(word) for word in words}
