# SPDX-License-Identifier: GPL-3.0-or-later
"""Output of the callback in real runs. A run takes a second, so the tests of one playbook share it."""

from __future__ import annotations

import os
import pty
import re
import subprocess
from collections.abc import Callable

import pytest

from tests.unit.callback.runs import PROGRESS, Project, Run

SECRET = "Tr0ub4dor-secret"
# Messages of tasks come from the store of variables: an error may quote a line of the playbook itself.
FAILURES = """
- name: Everything that can go wrong
  hosts: localhost
  gather_facts: false
  ignore_errors: true
  tasks:
    - name: A program fails
      ansible.builtin.command: sh -c "echo to-stdout; echo to-stderr >&2; exit 7"
    - name: Several problems
      ansible.builtin.fail:
        msg: |
          2 problems:
            - the first
            - the second
    - name: A variable is missing
      ansible.builtin.debug:
        msg: "{{ no_such_variable }}"
    - name: A loop fails
      ansible.builtin.assert:
        that: item == "good"
        fail_msg: "{{ item }} is not good"
      loop: [good, bad, worse]
    - name: A hidden loop fails
      ansible.builtin.fail:
        msg: "{{ item }}"
      loop: ["{{ lookup('env', 'SECRET') }}"]
      no_log: true
    - name: A hidden message
      ansible.builtin.fail:
        msg: "{{ lookup('env', 'SECRET') }}"
      no_log: true
"""
CHANGES = """
- name: Change things
  hosts: localhost
  gather_facts: false
  tasks:
    - name: A skipped task
      ansible.builtin.set_fact:
        skipped: true
      when: false
    - name: An ok task
      ansible.builtin.set_fact:
        ok: true
    - name: Include
      ansible.builtin.include_tasks: included.yml
    - name: Write a file
      ansible.builtin.copy:
        content: "one\\n"
        dest: "{{ playbook_dir }}/written"
        mode: "0600"
    - name: Make several
      ansible.builtin.set_fact:
        folder: "{{ item }}"
      changed_when: item != "nothing"
      loop: [nothing, one, two, three]
      notify: Tell
    - name: Write a secret
      ansible.builtin.set_fact:
        path: "{{ lookup('env', 'SECRET') }}"
      changed_when: true
      no_log: true
    - name: Hide a message
      ansible.builtin.debug:
        msg: "{{ lookup('env', 'SECRET') }}"
      no_log: true
    - name: Report
      ansible.builtin.debug:
        msg: |
          service   state
          -------   -----
          database  running
    - name: Report data
      ansible.builtin.debug:
        var: playbook_dir | type_debug
    - name: Announce a change
      ansible.builtin.debug:
        msg: The sky will be painted
      changed_when: true
    - name: Try again
      ansible.builtin.set_fact:
        tried: true
      register: tries
      until: tries.attempts == 2
      changed_when: true
      retries: 3
      delay: 0
  handlers:
    - name: Tell
      ansible.builtin.set_fact:
        told: true
      changed_when: true
"""

PLANNER = """#!/usr/bin/python
import json
same = [{"address": f"Service {name}", "action": "none"} for name in ("api", "worker")]
text = "! Service api  failed (it is somebody else's)"
print(json.dumps({"failed": True, "msg": "1 of 2 objects failed", "objects": same, "plan": same, "plan_text": text}))
"""


STACK = """#!/usr/bin/python
import json
told = "cannot create vpc.main: ec2:CreateVpc: VpcLimitExceeded: the limit is 5; correct the cause and run this again"
many = [{"address": f"subnet.{number}", "outcome": "skipped"} for number in range(100)]
failures = [{"addresses": ["vpc.main"], "cause": "the limit is 5"}]
rest = {"outputs": {"vpc.main": {"id": "vpc-1"}}, "plan_text": "~ subnet.7", "resources": many, "failures": failures}
print(json.dumps({"failed": True, "changed": True, "msg": told, **rest}))
"""


@pytest.fixture(scope="module")
def failures(project: Callable[..., Project]) -> Run:
    return project(FAILURES).run(variables={"SECRET": SECRET})


@pytest.fixture(scope="module")
def changes_project(project: Callable[..., Project]) -> Project:
    made = project(CHANGES)
    (made.folder / "included.yml").write_text("- ansible.builtin.meta: noop\n", "utf-8")
    return made


@pytest.fixture(scope="module")
def dry_run(changes_project: Project) -> Run:
    """Run before any change."""
    return changes_project.run(["--check", "--diff"], variables={"SECRET": SECRET})


@pytest.fixture(scope="module")
def changed(dry_run: Run, changes_project: Project) -> Run:
    return changes_project.run(variables={"SECRET": SECRET, "LAKEHOUSE_PROGRESS_SLOW_TASK_SECONDS": "1000"})


def test_a_failed_program_is_shown_with_all_it_said_once(failures: Run) -> None:
    assert re.search(r"ignored  A program fails +\d+\.\d s", failures.output)
    assert len(failures.lines_with("stdout: to-stdout")) == 1
    assert len(failures.lines_with("stderr: to-stderr")) == 1
    assert len(failures.lines_with("rc: 7")) == 1


def test_a_failure_names_its_place(failures: Run) -> None:
    assert "play.yml:7" in failures.output.split("A program fails")[1].split("ignored")[0]


def test_a_message_of_several_lines_keeps_its_lines(failures: Run) -> None:
    assert failures.output.count("\n           2 problems:\n             - the first\n             - the second\n") == 1


def test_a_plan_that_failed_is_told_by_its_text_alone(project: Callable[..., Project]) -> None:
    made = project("- hosts: localhost\n  gather_facts: false\n  tasks:\n    - name: Apply\n      planner:\n")
    (made.folder / "library").mkdir()
    (made.folder / "library" / "planner.py").write_text(PLANNER, "utf-8")
    run = made.run()
    assert run.exit_code == 2
    assert len(run.lines_with("! Service api  failed")) == 1
    assert "1 of 2 objects failed" in run.output
    assert "worker" not in run.output
    assert "action:" not in run.output


def test_a_message_that_tells_every_failure_is_all_that_is_shown(project: Callable[..., Project]) -> None:
    made = project("- hosts: localhost\n  gather_facts: false\n  tasks:\n    - name: Apply\n      stack:\n")
    (made.folder / "library").mkdir()
    (made.folder / "library" / "stack.py").write_text(STACK, "utf-8")
    run = made.run()
    assert run.exit_code == 2
    shown = run.output.split("FAILED")[1].split("localhost")[0].strip().splitlines()
    assert [line.strip() for line in shown[1:] if line.strip()] == [
        "cannot create vpc.main: ec2:CreateVpc: VpcLimitExceeded: the limit is 5; correct the cause and run this again"
    ]


ASSERTION = """
- hosts: localhost
  gather_facts: false
  tasks:
    - name: It is confirmed
      ansible.builtin.assert:
        that: 1 > 2
        fail_msg: "lakehouse_destroy_confirm: it is not confirmed. Remedy: confirm it."
      ignore_errors: true
    - name: It adds up
      ansible.builtin.assert:
        that: 3 > 4
"""


def test_an_assertion_with_a_message_says_nothing_else(project: Callable[..., Project]) -> None:
    output = project(ASSERTION).run().output
    assert output.count("lakehouse_destroy_confirm: it is not confirmed. Remedy: confirm it.") == 1
    assert "1 > 2" not in output
    # Without one, only the assertion is printed.
    assert "3 > 4" in output


def test_an_error_of_ansible_is_explained_by_ansible_once(failures: Run) -> None:
    assert len(failures.lines_with("[ERROR]: Task failed")) == 1
    assert "Origin: " in failures.output
    assert "'no_such_variable' is undefined" in failures.output


def test_each_failed_item_is_shown_once_and_then_counted(failures: Run) -> None:
    assert len(failures.lines_with("failed   A loop fails (item bad)")) == 1
    assert len(failures.lines_with("failed   A loop fails (item worse)")) == 1
    assert len(failures.lines_with("worse is not good")) == 1
    assert failures.line_with("ignored  A loop fails").startswith("  ignored  A loop fails (2 of 3 items failed)")


def test_no_log_hides_failures(failures: Run) -> None:
    assert SECRET not in failures.output
    assert "A hidden message" in failures.output
    assert "censored due to no_log" in failures.line_with("failed   A hidden loop fails")
    assert len(failures.lines_with("the output has been hidden")) == 2


def test_no_log_hides_at_every_verbosity(project: Callable[..., Project]) -> None:
    variables = {"SECRET": SECRET, "ANSIBLE_INJECT_INVOCATION": "1"}
    for playbook in (FAILURES, CHANGES):
        made = project(playbook)
        (made.folder / "included.yml").touch()
        assert SECRET not in made.run(["-vvv", "--diff"], variables=variables).output


def test_the_recap_counts_as_ansible_does(failures: Run) -> None:
    assert re.search(
        r"localhost +: ok=6 +changed=1 +unreachable=0 +failed=0 +skipped=0 +rescued=0 +ignored=6", failures.output
    )


def test_an_unreachable_host_is_named(project: Callable[..., Project]) -> None:
    playbook = """
- hosts: all
  gather_facts: false
  tasks:
    - name: Reach it
      ansible.builtin.ping:
      vars: {ansible_connection: ssh, ansible_port: 1, ansible_host: 127.0.0.1}
"""
    run = project(playbook, hosts=["here"]).run()
    assert run.exit_code == 4
    assert "NO HOST  Reach it (here is unreachable)" in run.output
    assert len(run.lines_with("Connection refused")) == 1


def test_a_playbook_without_hosts_says_so(project: Callable[..., Project]) -> None:
    run = project("- hosts: nobody\n  tasks: []\n").run()
    assert "no hosts matched" in run.output


def test_a_play_that_is_for_nobody_on_purpose_is_not_mentioned(project: Callable[..., Project]) -> None:
    run = project("- name: For another target\n  hosts: all:!all\n  tasks: []\n").run()
    assert "no hosts matched" not in run.output
    assert "For another target" not in run.output


def test_skipped_tasks_includes_and_ok_tasks_are_hidden(changed: Run) -> None:
    for hidden in ("A skipped task", "An ok task", "included", "skipping"):
        assert hidden not in changed.output


def test_a_changed_task_says_what_it_changed_and_how_long_it_took(changed: Run) -> None:
    assert re.search(r"  changed  Write a file +\d+\.\d s\n           /\S+/written\n", changed.output)


def test_a_loop_is_folded_into_one_line(changed: Run) -> None:
    assert re.search(
        r"  changed  Make several \(3 of 4 items\) +\d+\.\d s\n           one, two, three\n", changed.output
    )


def test_no_log_hides_changes_and_messages(changed: Run, dry_run: Run) -> None:
    for run in (changed, dry_run):
        assert SECRET not in run.output
        assert "Hide a message (hidden by no_log)" in run.output
        assert "  changed  Write a secret" in run.output


def test_a_message_is_printed_as_it_is(changed: Run) -> None:
    assert "\nservice   state\n-------   -----\ndatabase  running\n" in changed.output


def test_data_is_printed_under_the_name_of_its_task(changed: Run) -> None:
    assert re.search(r"  ok       Report data +\d+\.\d s\n           playbook_dir \| type_debug: str\n", changed.output)


def test_a_message_that_announces_a_change_is_shown(changed: Run) -> None:
    assert re.search(r"  changed  Announce a change +\d+\.\d s\n           The sky will be painted\n", changed.output)


def test_attempts_are_counted(changed: Run) -> None:
    assert "Try again (2 attempts)" in changed.output


def test_handlers_are_shown(changed: Run) -> None:
    assert "  changed  Tell " in changed.output


def test_the_last_line_tells_the_whole_duration(changed: Run) -> None:
    assert re.fullmatch(r"Finished in \d+\.\d s", changed.output.splitlines()[-1])


def test_no_line_ends_in_blanks_or_leaves_the_terminals_width(changed: Run) -> None:
    tasks = changed.output.split("\nlocalhost")[0].splitlines()
    assert [line for line in tasks if len(line) > 100 or line != line.rstrip()] == []


def test_check_mode_is_marked(dry_run: Run, changed: Run) -> None:
    assert "Change things [CHECK MODE]" in dry_run.output
    assert dry_run.output.splitlines()[-1].endswith("in check mode: nothing was changed")
    assert "CHECK MODE" not in changed.output


def test_a_difference_stands_below_its_task(dry_run: Run) -> None:
    below = dry_run.output.split("changed  Write a file")[1].split("\n  changed")[0]
    assert "           +one\n" in below


def test_verbose_output_is_the_default_callbacks(project: Callable[..., Project]) -> None:
    made = project(VERBOSE)
    ours, theirs = (made.run(["-vv"], callback=callback).output for callback in (PROGRESS, "ansible.builtin.default"))
    assert comparable(ours) == comparable(theirs)


VERBOSE = """
- name: Say
  hosts: localhost
  gather_facts: false
  tasks:
    - name: Set
      ansible.builtin.set_fact:
        set: true
    - name: Skip
      ansible.builtin.command: echo
      when: false
    - name: Loop
      ansible.builtin.debug:
        msg: "{{ item }}"
      loop: [one, two]
    - name: Fail
      ansible.builtin.fail:
        msg: no
"""


def comparable(output: str) -> list[str]:
    """Return the lines that do not name the callback or the run's duration."""
    lines = [line for line in output.splitlines() if not re.search(r"callback|^Finished in", line)]
    return "\n".join(lines).rstrip("\n").splitlines()


ALL_ARE_SLOW = {"LAKEHOUSE_PROGRESS_SLOW_TASK_SECONDS": "0"}
ROLES = """
- name: Two roles
  hosts: all
  gather_facts: false
  roles: [quiet, busy, quiet]
"""
QUIET = """
- name: Nothing to do
  ansible.builtin.set_fact:
    done: false
"""
BUSY = """
- name: Work
  ansible.builtin.set_fact:
    done: true
  changed_when: true
- name: Work more
  ansible.builtin.set_fact:
    more: true
  changed_when: true
"""


def test_each_role_has_one_heading(project: Callable[..., Project]) -> None:
    run = project(ROLES, roles={"quiet": QUIET, "busy": BUSY}).run()
    assert re.search(
        r"\nTwo roles\nquiet +1 ok +[\d.]+ s\nbusy\n  changed  Work +[\d.]+ s\n  changed  Work more +[\d.]+ s\n",
        run.output,
    )


def test_slow_tasks_are_shown_and_several_hosts_are_named(project: Callable[..., Project]) -> None:
    run = project(ROLES, hosts=["one", "two"], roles={"quiet": QUIET, "busy": BUSY}).run(variables=ALL_ARE_SLOW)
    assert len(run.lines_with("ok       Nothing to do [one]")) == 1
    assert len(run.lines_with("changed  Work [one]")) == 1
    assert len(run.lines_with("changed  Work [two]")) == 1
    assert len(run.lines_with("changed=2")) == 2


def test_an_ascii_terminal_gets_a_whole_output(project: Callable[..., Project]) -> None:
    playbook = VERBOSE.replace("name: Set", "name: Grüße 日本")
    run = project(playbook).run_alone({"PYTHONIOENCODING": "ascii", **ALL_ARE_SLOW})
    assert "changed=0" in run.output
    assert len(run.lines_with("  ok       Gr")) == 1


def test_a_terminal_names_the_running_task_and_then_replaces_it(project: Callable[..., Project]) -> None:
    output = terminal_output(project(VERBOSE))
    assert "\r\n  ...      Set\r" in output
    assert "\r\x1b[K" in output
    overwritten = re.compile(r"  \.\.\.      [^\n]*?\r\x1b\[K")
    visible = overwritten.sub("", output)
    assert "..." not in visible
    assert "  FAILED   Fail" in visible


def terminal_output(made: Project) -> str:
    """Run a playbook on a terminal and return its whole output."""
    controller, terminal = pty.openpty()
    with subprocess.Popen(
        made.command, cwd=made.folder, env=made.environment(), stdout=terminal, stderr=terminal
    ) as running:
        os.close(terminal)
        chunks = []
        while chunk := read_terminal(controller):
            chunks.append(chunk)
        running.wait()
    os.close(controller)
    return b"".join(chunks).decode("utf-8")


def read_terminal(descriptor: int) -> bytes:
    """Return the output on a terminal; it is empty once the other end is closed."""
    try:
        return os.read(descriptor, 65536)
    except OSError:
        return b""
