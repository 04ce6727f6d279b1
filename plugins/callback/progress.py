# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: progress
type: stdout
short_description: Screen output of changes, failures and durations
version_added: 1.0.0
author:
  - The crypto_lakehouse.platform authors (@crypto-lakehouse)
description:
  - Prints one line with the duration for each task that changed, failed or was slow, and the text of C(debug) tasks.
    Lines of changed tasks list the changes. Other V(ok) results, skipped tasks and includes are only counted.
  - A failure is shown in full and once. If the message of a module contains address, cause and remedy of each failure,
    only the message is shown. Warnings and, with C(--diff), differences are always shown.
  - A loop is shown on one line. Results that C(no_log) censors are not shown.
  - With C(-v) or more, the output is that of P(ansible.builtin.default#callback).
requirements:
  - Set as stdout in the configuration, C(stdout_callback = crypto_lakehouse.platform.progress).
extends_documentation_fragment:
  - default_callback
  - result_format_callback
options:
  slow_task_seconds:
    description: Minimum duration in seconds of an unchanged task that is shown.
    type: float
    default: 1.0
    env:
      - name: LAKEHOUSE_PROGRESS_SLOW_TASK_SECONDS
    ini:
      - section: callback_progress
        key: slow_task_seconds
  show_running_task:
    description: Whether to show the running task on a terminal, in a line that its result replaces.
    type: bool
    default: true
    env:
      - name: LAKEHOUSE_PROGRESS_SHOW_RUNNING_TASK
    ini:
      - section: callback_progress
        key: show_running_task
"""

import os
import sys
import textwrap
import time
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ansible import constants, context
from ansible.playbook.task_include import TaskInclude
from ansible.plugins.callback.default import CallbackModule as DefaultCallback
from ansible.utils.color import colorize, hostcolor
from ansible.utils.display import get_text_width

from ..plugin_utils.forks import prepare
from ..plugin_utils.progress import aligned, changes, duration_text, enumeration, is_worded_assertion, message_lines

if TYPE_CHECKING:
    from ansible.executor.stats import AggregateStats
    from ansible.executor.task_result import CallbackTaskResult
    from ansible.inventory.host import Host
    from ansible.playbook import Playbook
    from ansible.playbook.play import Play
    from ansible.playbook.task import Task

# Pattern of the hosts of a play for another target.
NOBODY = "all:!all"
WIDEST_LINE = 100
STATUS_WIDTH = 8
INDENT = " " * (2 + STATUS_WIDTH + 1)
CLEAR_TO_END_OF_LINE = "\033[K"
LONGEST_ITEM = 60
# Keys of a result that its line, its heading or the lines of its items already contain.
SAID_ELSEWHERE = frozenset(
    {
        "ansible_facts",
        "ansible_index_var",
        "ansible_loop_var",
        "attempts",
        "changed",
        "failed",
        "item",
        # The message of a preflight contains them.
        "problems",
        "results",
        "unreachable",
    }
)
# Keys of a failed result whose message contains address, cause and remedy of each failure.
TOLD_BY_MESSAGE = frozenset({"failures", "faults", "problems"})
PLAN_AS_DATA = frozenset({"objects", "plan"})
RECAP_COLUMNS = (
    ("ok", "ok", constants.COLOR_OK),
    ("changed", "changed", constants.COLOR_CHANGED),
    ("unreachable", "unreachable", constants.COLOR_UNREACHABLE),
    ("failed", "failures", constants.COLOR_ERROR),
    ("skipped", "skipped", constants.COLOR_SKIP),
    ("rescued", "rescued", constants.COLOR_OK),
    ("ignored", "ignored", constants.COLOR_WARN),
)


@dataclass
class Loop:
    """The items of one task on one host, counted as they finish."""

    total: int = 0
    changed: list[str] = field(default_factory=list)
    failed: int = 0


@dataclass
class Section:
    """Consecutive tasks of one role."""

    role: str
    started_s: float
    ok: int = 0
    titled: bool = False


def _is_left_out(play: Play) -> bool:
    """Return whether a play has no hosts on purpose, because it is for another target."""
    return NOBODY in (play.hosts if isinstance(play.hosts, list) else [play.hosts])


class CallbackModule(DefaultCallback):
    """Output of one line for each changed, failed or slow result."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "crypto_lakehouse.platform.progress"

    def __init__(self) -> None:
        super().__init__()
        now_s = time.monotonic()
        self._started_s = now_s
        self._task_started_s: dict[tuple[str, str], float] = {}
        self._loops: dict[tuple[str, str], Loop] = {}
        self._diffs: dict[tuple[str, str], str] = {}
        self._section = Section(role="", started_s=now_s)
        self._hosts: set[str] = set()
        self._running_line_shown = False

    @property
    def _default_output(self) -> bool:
        return bool(self._display.verbosity > 0)

    def _say(self, text: str, color: str | None = None, *, failed: bool = False) -> None:
        self._clear_running_line()
        self._display.display(text, color=color, stderr=failed and self.get_option("display_failed_stderr"))

    def _width(self) -> int:
        return int(min(self._display.columns, WIDEST_LINE))

    def _show_running_line(self, task: Task) -> None:
        """Print the running task without a line break, so that the next output replaces it."""
        if not (self.get_option("show_running_task") and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"):
            return
        self._clear_running_line()
        line = f"  {'...':<{STATUS_WIDTH}} {self._section_label()}{self._task_name(task)}"
        # A wide character takes two columns; cutting one more character for each keeps the line short enough.
        room = self._width() - 1 - (get_text_width(line) - len(line))
        self._display.display(f"{line[:room]}\r", newline=False, screen_only=True)
        self._running_line_shown = True

    def _clear_running_line(self) -> None:
        if self._running_line_shown:
            self._display.display(CLEAR_TO_END_OF_LINE, newline=False, screen_only=True)
            self._running_line_shown = False

    def _section_label(self) -> str:
        return f"{self._section.role}: " if self._section.role and not self._section.titled else ""

    @staticmethod
    def _role_name(task: Task) -> str:
        return str(task._role.get_name(include_role_fqcn=False)) if task._role else ""

    def _task_name(self, task: Task) -> str:
        """Return a task's name without the role's name, which the heading contains."""
        return str(task.get_name(include_role_fqcn=False)).strip().removeprefix(f"{self._role_name(task)} : ")

    def _enter_section(self, task: Task) -> None:
        """Start a heading when the role changes, and summarise the last section if it has no output."""
        role = self._role_name(task)
        if role == self._section.role:
            return
        self._leave_section()
        self._section = Section(role=role, started_s=time.monotonic())

    def _leave_section(self) -> None:
        section = self._section
        if section.role and section.ok and not section.titled:
            took = duration_text(time.monotonic() - section.started_s)
            self._say(aligned(section.role, f"{section.ok} ok  {took:>11}", self._width()), constants.COLOR_OK)
        section.ok = 0

    def _print_title(self) -> None:
        if self._section.role and not self._section.titled:
            self._say(self._section.role, constants.COLOR_HIGHLIGHT)
        self._section.titled = True

    def _print_line(self, status: str, result: CallbackTaskResult, color: str, detail: str = "") -> None:
        self._print_title()
        task = result.task
        parts = [f"  {status:<{STATUS_WIDTH}} {self._task_name(task)}"]
        if len(self._hosts) > 1 or task.delegate_to:
            parts.append(f" [{self.host_label(result)}]")
        if detail:
            parts.append(f" ({detail})")
        if task.check_mode and not context.CLIARGS["check"]:
            parts.append(" (check mode)")
        left = "".join(parts)
        took = duration_text(self._took_s(result))
        self._say(
            aligned(left, took, self._width(), get_text_width(left)), color, failed=color == constants.COLOR_ERROR
        )

    def _print_block(self, lines: Iterable[str], color: str | None, *, failed: bool = False) -> None:
        for line in lines:
            self._say(f"{INDENT}{line}".rstrip(), color, failed=failed)

    def _print_failure(self, result: CallbackTaskResult, color: str = constants.COLOR_ERROR) -> None:
        """Print all values of a failure once."""
        values = result.result
        if "censored" in values:
            self._print_block([str(values["censored"])], color, failed=True)
            self._print_origin(result.task)
            return
        self._clean_results(values, result.task.action)
        message = values.get("msg")
        is_told = TOLD_BY_MESSAGE.intersection(values) or is_worded_assertion(result.task.action, message)
        if is_told and (lines := message_lines(message)) is not None:
            self._print_block(lines, color, failed=True)
            return
        # Ansible's own errors are a chain with the origin of each link; a module's message is plain text.
        if isinstance(message, str) and message.startswith("Task failed"):
            self._clear_running_line()
            self._handle_exception(values, use_stderr=self.get_option("display_failed_stderr"))
            del values["msg"]
        elif (lines := message_lines(message)) is not None:
            self._print_block(lines, color, failed=True)
            self._print_origin(result.task)
            del values["msg"]
        self._print_rest(values, color)

    def _handle_exception(self, result: MutableMapping[str, Any], use_stderr: bool = False) -> None:
        # Ansible keeps the message of a censored failure in its exception and would print it.
        if "censored" in result:
            result.pop("exception", None)
        super()._handle_exception(result, use_stderr=use_stderr)

    def _print_origin(self, task: Task) -> None:
        if path := task.get_path():
            self._print_block([f"at {path}"], constants.COLOR_DEBUG, failed=True)

    def _print_rest(self, values: dict[str, Any], color: str) -> None:
        hidden = SAID_ELSEWHERE | {f"{stream}_lines" for stream in ("stdout", "stderr") if stream in values}
        # The text of a plan is shown instead of its data, which also contains all unchanged resources.
        hidden |= PLAN_AS_DATA if "plan_text" in values else frozenset()
        # Empty values (such as stderr of a program without errors) are hidden; a return code of 0 is shown.
        rest = {key: value for key, value in values.items() if key not in hidden and value not in ("", [], None)}
        if self._dump_results(rest, serialize=False):
            self._print_block(self._dumped(rest), color, failed=True)

    def _dumped(self, values: Mapping[str, Any]) -> list[str]:
        return textwrap.dedent(self._dump_results(values, indent=2).strip("\n")).splitlines()

    @staticmethod
    def _key(result: CallbackTaskResult) -> tuple[str, str]:
        return result.host.get_name(), result.task._uuid

    def _took_s(self, result: CallbackTaskResult) -> float:
        now_s = time.monotonic()
        return now_s - self._task_started_s.get(self._key(result), now_s)

    def _loop(self, result: CallbackTaskResult) -> Loop:
        """Return the loop of a result, with this item counted."""
        loop = self._loops.setdefault(self._key(result), Loop())
        loop.total += 1
        return loop

    def _forget(self, result: CallbackTaskResult) -> None:
        for memory in (self._loops, self._diffs, self._task_started_s):
            memory.pop(self._key(result), None)

    def v2_playbook_on_start(self, playbook: Playbook) -> None:
        prepare()
        super().v2_playbook_on_start(playbook)

    def v2_playbook_on_play_start(self, play: Play) -> None:
        if self._default_output:
            super().v2_playbook_on_play_start(play)
            return
        self._leave_section()
        self._section = Section(role="", started_s=time.monotonic())
        self._play = play
        self._hosts.clear()
        if _is_left_out(play):
            return
        name = play.get_name().strip()
        mark = " [CHECK MODE]" if play.check_mode else ""
        self._say(f"\n{name}{mark}", constants.COLOR_HIGHLIGHT)

    def v2_playbook_on_task_start(self, task: Task, is_conditional: bool) -> None:
        if self._default_output:
            super().v2_playbook_on_task_start(task, is_conditional)

    def v2_playbook_on_handler_task_start(self, task: Task) -> None:
        if self._default_output:
            super().v2_playbook_on_handler_task_start(task)

    def v2_runner_on_start(self, host: Host, task: Task) -> None:
        self._task_started_s[host.get_name(), task._uuid] = time.monotonic()
        if self._default_output:
            super().v2_runner_on_start(host, task)
            return
        self._hosts.add(host.get_name())
        self._enter_section(task)
        self._show_running_line(task)

    def v2_runner_on_ok(self, result: CallbackTaskResult) -> None:
        if self._default_output:
            super().v2_runner_on_ok(result)
            return
        self._enter_section(result.task)
        self._clear_running_line()
        self._handle_warnings_and_exception(result)
        if isinstance(result.task, TaskInclude):
            return
        self._section.ok += 1
        if result.result.get("changed", False):
            self._print_changed(result)
        elif result.task.action in constants._ACTION_DEBUG:
            self._print_debug(result)
        elif self._took_s(result) >= self.get_option("slow_task_seconds"):
            self._print_line("ok", result, constants.COLOR_OK, self._attempts(result))
        self._forget(result)

    def v2_runner_on_failed(self, result: CallbackTaskResult, ignore_errors: bool = False) -> None:
        if self._default_output:
            super().v2_runner_on_failed(result, ignore_errors)
            return
        self._enter_section(result.task)
        self._clear_running_line()
        self._handle_warnings(result.result)
        status, color = ("ignored", constants.COLOR_SKIP) if ignore_errors else ("FAILED", constants.COLOR_ERROR)
        loop = self._loops.get(self._key(result))
        if loop and loop.failed:
            # Failed items were already shown when they failed.
            self._print_line(status, result, color, f"{loop.failed} of {loop.total} items failed")
        else:
            self._print_line(status, result, color, self._attempts(result))
            self._print_failure(result, color)
        self._forget(result)

    def v2_runner_on_unreachable(self, result: CallbackTaskResult) -> None:
        if self._default_output:
            super().v2_runner_on_unreachable(result)
            return
        self._enter_section(result.task)
        self._clear_running_line()
        self._handle_warnings(result.result)
        self._print_line("NO HOST", result, constants.COLOR_UNREACHABLE, f"{result.host.get_name()} is unreachable")
        self._print_failure(result, constants.COLOR_UNREACHABLE)
        self._forget(result)

    def v2_runner_on_skipped(self, result: CallbackTaskResult) -> None:
        if self._default_output:
            super().v2_runner_on_skipped(result)
            return
        self._clear_running_line()
        self._handle_warnings_and_exception(result)
        self._forget(result)

    def v2_runner_item_on_ok(self, result: CallbackTaskResult) -> None:
        if self._default_output:
            super().v2_runner_item_on_ok(result)
            return
        self._clear_running_line()
        self._handle_warnings_and_exception(result)
        loop = self._loop(result)
        if result.task.action in constants._ACTION_DEBUG:
            self._print_debug(result)
        elif result.result.get("changed", False):
            loop.changed.append(self._item_text(result))

    def v2_runner_item_on_failed(self, result: CallbackTaskResult) -> None:
        if self._default_output:
            super().v2_runner_item_on_failed(result)
            return
        self._enter_section(result.task)
        self._clear_running_line()
        self._handle_warnings(result.result)
        loop = self._loop(result)
        loop.failed += 1
        self._print_line("failed", result, constants.COLOR_ERROR, f"item {self._item_text(result)}")
        self._print_failure(result)

    def v2_runner_item_on_skipped(self, result: CallbackTaskResult) -> None:
        if self._default_output:
            super().v2_runner_item_on_skipped(result)
            return
        self._loop(result)
        self._handle_warnings_and_exception(result)

    def v2_runner_retry(self, result: CallbackTaskResult) -> None:
        # The line of the final result contains the number of attempts.
        if self._default_output:
            super().v2_runner_retry(result)

    def v2_on_file_diff(self, result: CallbackTaskResult) -> None:
        if self._default_output:
            super().v2_on_file_diff(result)
            return
        # Ansible reports the difference before the result; the callback prints it below the result's line.
        for values in result.result.get("results", [result.result]):
            if values.get("changed", False) and values.get("diff"):
                key = self._key(result)
                self._diffs[key] = self._diffs.get(key, "") + self._get_diff(values["diff"])

    def v2_playbook_on_include(self, included_file: object) -> None:
        if self._default_output:
            super().v2_playbook_on_include(included_file)

    def v2_playbook_on_no_hosts_matched(self) -> None:
        if self._default_output or not _is_left_out(self._play):
            self._clear_running_line()
            super().v2_playbook_on_no_hosts_matched()

    def v2_playbook_on_no_hosts_remaining(self) -> None:
        # The failures of the last hosts are already shown, and the recap counts them.
        if self._default_output:
            super().v2_playbook_on_no_hosts_remaining()

    def v2_playbook_on_stats(self, stats: AggregateStats) -> None:
        self._leave_section()
        self._clear_running_line()
        if self._default_output or (stats.custom and self.get_option("show_custom_stats")):
            super().v2_playbook_on_stats(stats)
        else:
            self._print_recap(stats)
        took = duration_text(time.monotonic() - self._started_s)
        mark = " in check mode: nothing was changed" if context.CLIARGS["check"] else ""
        self._say(f"Finished in {took}{mark}")

    def _print_recap(self, stats: AggregateStats) -> None:
        self._say("")
        for host in sorted(stats.processed):
            counts = stats.summarize(host)
            for colored in (True, False):
                # Keys and their order are those of Ansible's recap, which people and programs search for.
                columns = [
                    colorize(word, counts[count], color if colored else None) for word, count, color in RECAP_COLUMNS
                ]
                line = f"{hostcolor(host, counts, colored)} : {' '.join(columns)}"
                self._display.display(line, screen_only=colored, log_only=not colored)

    def _print_changed(self, result: CallbackTaskResult) -> None:
        loop = self._loops.get(self._key(result))
        detail = f"{len(loop.changed)} of {loop.total} items" if loop else self._attempts(result)
        self._print_line("changed", result, constants.COLOR_CHANGED, detail)
        diff = self._diffs.get(self._key(result))
        if diff:
            self._print_block(diff.splitlines(), None)
        elif loop:
            self._print_block([enumeration(loop.changed)], constants.COLOR_CHANGED)
        elif result.task.action in constants._ACTION_DEBUG and "censored" not in result.result:
            # In check mode, changes that another task would make.
            self._print_block(message_lines(result.result.get("msg")) or [], constants.COLOR_CHANGED)
        else:
            self._print_block(changes(result.result), constants.COLOR_CHANGED)

    def _print_debug(self, result: CallbackTaskResult) -> None:
        values = result.result
        if "results" in values:
            return  # the items are already printed
        if "censored" in values:
            self._print_line("ok", result, constants.COLOR_OK, "hidden by no_log")
            return
        self._clean_results(values, result.task.action)
        lines = message_lines(values.get("msg"))
        if lines is None:
            self._print_line("ok", result, constants.COLOR_OK)
            self._print_block(self._dumped(values), None)
            return
        self._print_title()
        for line in ["", *lines]:
            self._say(line)

    @staticmethod
    def _attempts(result: CallbackTaskResult) -> str:
        attempts = result.result.get("attempts", 1)
        return f"{attempts} attempts" if attempts > 1 else ""

    def _item_text(self, result: CallbackTaskResult) -> str:
        """Return a loop item's label as one short line."""
        label = " ".join(str(self._get_item_label(result.result)).split())
        return label if len(label) <= LONGEST_ITEM else f"{label[: LONGEST_ITEM - 3]}..."
