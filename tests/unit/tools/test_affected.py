# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tools import gate
from tools.affected import affected_steps, affected_tests, step_of

REPOSITORY = Path(__file__).resolve().parents[3]
PLATFORM = "ansible_collections.crypto_lakehouse.platform"
FILES = {
    "plugins/module_utils/engine/plan.py": f"from {PLATFORM}.plugins.module_utils.x import y",
    "plugins/module_utils/x.py": "y = 1",
    "plugins/module_utils/alone.py": "",
    "plugins/module_utils/near.py": "from .x import y",
    "roles/catalogue/vars/main.yml": "{}",
    "roles/application/files/src/crypto_lakehouse/query.py": "",
    "roles/application/files/tests/test_query.py": "from crypto_lakehouse import query",
    "tests/unit/conftest.py": "",
    "tests/unit/engine/helper.py": f"import {PLATFORM}.plugins.module_utils.engine.plan",
    "tests/unit/engine/test_plan.py": "from tests.unit.engine import helper",
    "tests/unit/engine/test_near.py": f"from {PLATFORM}.plugins.module_utils import near",
    "tests/unit/test_catalogue.py": 'ROLE = ROOT / "roles/catalogue"',
    "tests/integration/aws/test_vpc.py": f"def test_x():\n    import {PLATFORM}.plugins.module_utils.x",
}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    write(tmp_path, FILES)
    for words in (["init", "-q", "-b", "main"], ["add", "."], ["-c", "user.name=t", "-c", "user.email=t@example.org"]):
        command = [*words, "commit", "-q", "-m", "first"] if words[0] == "-c" else words
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    return tmp_path


def write(root: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


@pytest.mark.parametrize(
    ("changed", "tests"),
    [
        ("plugins/module_utils/alone.py", set()),
        (
            "plugins/module_utils/x.py",
            {"tests/unit/engine/test_plan.py", "tests/unit/engine/test_near.py", "tests/integration/aws/test_vpc.py"},
        ),
        ("plugins/module_utils/engine/plan.py", {"tests/unit/engine/test_plan.py"}),
        ("tests/unit/engine/helper.py", {"tests/unit/engine/test_plan.py"}),
        ("tests/unit/engine/test_near.py", {"tests/unit/engine/test_near.py"}),
        ("roles/catalogue/vars/main.yml", {"tests/unit/test_catalogue.py"}),
        ("roles/application/files/src/crypto_lakehouse/query.py", {"roles/application/files/tests/test_query.py"}),
        ("README.md", set()),
    ],
)
def test_a_test_is_affected_by_what_it_imports_or_names(repository: Path, changed: str, tests: set[str]) -> None:
    assert affected_tests(repository, {changed}) == tests


def test_a_conftest_affects_every_test_below_it(repository: Path) -> None:
    found = affected_tests(repository, {"tests/unit/conftest.py"})
    assert found == {name for name in FILES if name.startswith("tests/unit/") and "/test_" in name}


def test_a_file_that_is_not_python_yet_affects_its_own_tests(repository: Path) -> None:
    write(repository, {"plugins/module_utils/x.py": "y = ", "tests/unit/engine/test_plan.py": "def"})
    assert "tests/unit/engine/test_plan.py" in affected_tests(repository, {"tests/unit/engine/test_plan.py"})
    assert "tests/unit/engine/test_near.py" in affected_tests(repository, {"plugins/module_utils/x.py"})


def test_without_a_change_no_step_is_affected(repository: Path) -> None:
    assert affected_steps(repository, gate.STEPS["test"]) == []


def test_steps_are_narrowed_to_the_affected_files_and_untracked_files_count(repository: Path) -> None:
    write(repository, {"plugins/module_utils/x.py": "y = 2", "tests/unit/test_new.py": ""})
    steps = {step.name: step.arguments for step in affected_steps(repository, gate.STEPS["test"])}
    unit = "tests/unit/engine/test_near.py tests/unit/engine/test_plan.py tests/unit/test_new.py"
    assert steps["unit"] == (f"TESTS={unit}",)
    assert steps["aws"] == ("TESTS=tests/integration/aws/test_vpc.py",)
    assert {"lint-python", "lint-types", "sanity"} <= set(steps)
    assert {"application", "kube", "integration", "molecule", "lint-workflows"}.isdisjoint(steps)


@pytest.mark.parametrize(
    ("changed", "arguments"),
    [
        (["plugins/module_utils/x.py"], ("ARGS=plugins/module_utils/x.py",)),
        # pylint of ansible-test checks these too.
        (["roles/application/files/tests/test_query.py"], ("ARGS=roles/application/files/tests/test_query.py",)),
        (["galaxy.yml", "plugins/module_utils/x.py"], ()),
    ],
)
def test_sanity_checks_the_changed_files(repository: Path, changed: list[str], arguments: tuple[str, ...]) -> None:
    write(repository, dict.fromkeys(changed, "y = 2"))
    steps = {step.name: step.arguments for step in affected_steps(repository, gate.STEPS["test"])}
    assert steps["sanity"] == arguments


def test_the_base_may_be_an_earlier_commit(repository: Path) -> None:
    write(repository, {"roles/application/files/src/crypto_lakehouse/query.py": "x = 1"})
    subprocess.run(
        ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qam", "second"],
        cwd=repository,
        check=True,
    )
    assert affected_steps(repository, gate.STEPS["test"]) == []
    steps = {step.name: step.arguments for step in affected_steps(repository, gate.STEPS["test"], "HEAD~1")}
    assert steps["application"] == ("TESTS=tests/test_query.py",)


def test_every_test_file_of_this_repository_belongs_to_a_step() -> None:
    listing = subprocess.run(
        ["git", "ls-files", "*test_*.py"], cwd=REPOSITORY, check=True, capture_output=True, text=True
    )
    files = [name for name in listing.stdout.split() if Path(name).name.startswith("test_")]
    assert files
    assert [name for name in files if step_of(name) not in {step.name for step in gate.TEST_STEPS}] == []


def test_a_module_affects_the_tests_that_exist_for_it_here() -> None:
    found = affected_tests(REPOSITORY, {"tools/affected.py"})
    assert {"tests/unit/tools/test_affected.py", "tests/unit/tools/test_gate.py"} <= found
