# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.processes import read_process
from tools import run_molecule
from tools.steps import read_report

# Prints its arguments, waits until the other one runs as well, and fails for the first scenario.
MOLECULE = """#!/bin/sh
echo "$3 at $LAKEHOUSE_MOLECULE_PORT_OFFSET in $LAKEHOUSE_MOLECULE_HOME with $ANSIBLE_HOME"
echo $$ > "$3.pid"
until test -e default.pid && test -e another.pid; do sleep 0.1; done
test "$3" != default
"""
# The format of Molecule: colours, a bar as prefix, and lines of 79 characters.
OUTPUT = (
    r"\033[2m│\033[0m \033[33m  changed  End the traffic\033[0m\n"
    r"\033[2m\033[31m│\033[0m \033[31m  FAILED   Wait for the result\033[0m\n"
    r"\033[2m\033[31m│\033[0m \033[31m  2.9 s\033[0m\n"
    r"\033[2m\033[31m│\033[0m \033[31m           No result came.\033[0m\n"
    r"\033[2m│\033[0m \033[30m           at /a/long/path/\033[0m\n"
    r"\033[2m│\033[0m \033[30m           side_effect.yml:63\033[0m\n"
)
REPOSITORY = Path(__file__).resolve().parents[3]
INTERRUPTED = """#!/bin/sh
echo $$ > "$3.pid"
until test -e default.pid && test -e another.pid; do sleep 0.1; done
test "$3" = default && kill -INT $PPID
sleep 600
"""


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a repository with two scenarios; each test sets the program that runs them."""
    for name in ("default", "another"):
        (tmp_path / "molecule" / name).mkdir(parents=True)
        (tmp_path / "molecule" / name / "molecule.yml").touch()
    (tmp_path / ".venv/bin").mkdir(parents=True)
    monkeypatch.setattr(run_molecule, "REPOSITORY", tmp_path)
    monkeypatch.setattr(run_molecule, "COLLECTION", tmp_path)
    monkeypatch.setattr(run_molecule, "POLL_S", 0.05)
    monkeypatch.setenv("PATH", f"{tmp_path / '.venv/bin'}:/usr/bin:/bin")
    return tmp_path


def stand_in(repository: Path, text: str) -> None:
    program = repository / ".venv/bin/molecule"
    program.write_text(text)
    program.chmod(0o755)


def test_no_scenario_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_molecule, "REPOSITORY", tmp_path)
    assert run_molecule.main([]) == 1


def test_scenarios_run_side_by_side_in_places_of_their_own_though_the_first_fails(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in(repository, MOLECULE)
    report = repository / "reports" / "molecule.xml"
    assert run_molecule.scenarios(repository) == ["default", "another"]
    assert run_molecule.main([f"--junit-xml={report}"]) == 1
    assert read_report(report).counts == {"passed": 1, "failed": 1, "skipped": 0}
    output = capsys.readouterr().out
    logs = [repository / ".cache/molecule" / f"{name}.log" for name in ("default", "another")]
    given = [log.read_text().split() for log in logs]
    assert {words[0] for words in given} == {"default", "another"}
    assert [len({words[place] for words in given}) for place in (2, 4, 6)] == [2, 2, 2]
    assert not any(Path(words[4]).parent.exists() for words in given)
    assert logs[0].read_text() in output
    assert logs[1].read_text() not in output
    assert "scenario default: FAILED" in output.splitlines()[-1]
    assert "scenario another: passed" in output


def test_no_more_scenarios_than_the_limit_run_at_once(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(repository, "#!/bin/sh\necho begin $3 >> order\nsleep 0.3\necho end $3 >> order\n")
    monkeypatch.setattr(run_molecule, "AT_ONCE", 1)
    assert run_molecule.main([]) == 0
    order = (repository / "order").read_text().splitlines()
    assert order == ["begin default", "end default", "begin another", "end another"]


def test_a_failed_scenario_says_which_task_failed(repository: Path) -> None:
    stand_in(repository, f"#!/bin/sh\ntest $3 = another || {{ printf '{OUTPUT}'; exit 1; }}\n")
    report = repository / "reports" / "molecule.xml"
    assert run_molecule.main([f"--junit-xml={report}"]) == 1
    [(name, why)] = read_report(report).failures
    assert name == "molecule::default"
    assert why.splitlines() == [
        "molecule test --scenario-name default failed",
        "FAILED   Wait for the result",
        "2.9 s",
        "No result came.",
        "at /a/long/path/",
        "side_effect.yml:63",
    ]


def test_a_scenario_alone_has_the_terminal(repository: Path, capfd: pytest.CaptureFixture[str]) -> None:
    stand_in(repository, "#!/bin/sh\necho output of $3\n")
    assert run_molecule.main(["another"]) == 0
    assert "output of another" in capfd.readouterr().out
    assert not (repository / ".cache/molecule").exists()


@pytest.mark.parametrize(("sweep", "ran"), [("", "default\n"), ("1", "default\nanother\n")])
def test_a_scenario_that_runs_alone_comes_last_in_a_sweep(
    repository: Path, monkeypatch: pytest.MonkeyPatch, sweep: str, ran: str
) -> None:
    stand_in(repository, "#!/bin/sh\necho $3 >> ran\n")
    monkeypatch.setattr(run_molecule, "ALONE", frozenset({"another"}))
    monkeypatch.setenv(run_molecule.SWEEP, sweep)
    assert run_molecule.main([]) == 0
    assert (repository / "ran").read_text() == ran


def test_every_scenario_that_runs_alone_exists() -> None:
    assert set(run_molecule.scenarios(REPOSITORY)) >= run_molecule.ALONE


def test_an_interrupt_ends_every_scenario(repository: Path) -> None:
    stand_in(repository, INTERRUPTED)
    with pytest.raises(KeyboardInterrupt):
        run_molecule.main([])
    pids = [int((repository / f"{name}.pid").read_text()) for name in ("default", "another")]
    assert [read_process(pid) for pid in pids] == [None, None]
