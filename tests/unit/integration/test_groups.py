# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.groups import ORDER, group_of

DEPLOY = Path(__file__).resolve().parents[2] / "integration" / "deploy"


@pytest.mark.parametrize(
    ("nodeid", "group"),
    [
        ("tests/integration/deploy/test_plan.py::test_a[x::y]", "repaired"),
        ("tests/integration/deploy/test_destroy.py::test_b", "replaced"),
        ("tests/integration/deploy/test_interruption.py::test_c", "interruption"),
        ("tests/integration/monitoring/test_rules.py::test_d", "monitoring"),
        ("tests/integration/host/test_unpack_packages.py::test_e", "test_unpack_packages"),
        ("tests/integration/host/test_services.py::test_f", "tests/integration/host/test_services.py::test_f"),
        ("tests/integration/kube/test_plan.py::test_g", "tests/integration/kube/test_plan.py::test_g"),
    ],
)
def test_tests_that_share_something_are_of_one_group(nodeid: str, group: str) -> None:
    assert group_of(nodeid) == group


def test_every_module_of_a_deployment_has_its_group_and_place() -> None:
    assert sorted(ORDER) == sorted(path.stem for path in DEPLOY.glob("test_*.py"))
