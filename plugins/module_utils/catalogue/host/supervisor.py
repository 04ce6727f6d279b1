# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes supervisord's configuration, so that its parser reads back exactly what was meant.

Rules of the format (supervisor/options.py, 4.2 and 4.3): ``;`` and ``#`` after white space start a comment even inside
quotes, ``%`` starts an expansion, ``%(here)s`` is replaced as text before anything else, a command is split by shlex.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..words import Complaint

LOG_BYTES, LOG_BACKUPS = 10 * 1024 * 1024, 3
# The pause between two starts grows by a second each time, so this is more than an hour of trying.
START_RETRIES = 100
OPEN_FILES = 4096
FACTORY = "make_main_rpcinterface"


@dataclass(frozen=True)
class Program:
    """A process that supervisord keeps running. stop_group: whether its children get the signal to end as well."""

    name: str
    command: Sequence[str]
    directory: str
    priority: int
    stop_signal: str
    stop_timeout_s: int
    stop_group: bool = True


def unwritable(path: str) -> Complaint | None:
    """Complain about a path that the format has no way to write."""
    if re.search(r"[\x00-\x1f\x7f]|\s[;#]|%\(here\)s|^\s|\s$", path):
        remedy = "leave out line breaks, %(here)s, and ; or # after a space"
        return f"the process manager cannot use the path {path!r}", remedy
    return None


def command_line(arguments: Sequence[str]) -> str:
    """Return the value of ``command``: each argument quoted, with nothing in it that the format would act upon."""
    return " ".join(_quoted(argument) for argument in arguments)


def _quoted(argument: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9_@+=:,./-]+", argument):
        return argument
    text = "'" + argument.replace("'", "'\"'\"'") + "'"
    # Closing and opening the quotes in between keeps two characters apart and adds nothing to the argument.
    text = re.sub(r"(\s)(?=[;#])", r"\1''", text)
    return re.sub(r"%(?=\()", "%''", text).replace("%", "%%")


def _path(path: str, expansions: int = 1) -> str:
    return path.replace("%", "%" * 2**expansions)


def program_conf(program: Program) -> str:
    """Return the file that describes one program."""
    return _section(
        f"program:{program.name}",
        {
            "command": command_line(program.command),
            "directory": _path(program.directory),
            "priority": str(program.priority),
            "autostart": "true",
            "autorestart": "true",
            "startsecs": "1",
            "startretries": str(START_RETRIES),
            "stopsignal": program.stop_signal,
            "stopwaitsecs": str(program.stop_timeout_s),
            "stopasgroup": "true" if program.stop_group else "false",
            "killasgroup": "true",
            # The program writes to its log itself: it needs no pipe, and outlives supervisord.
            "redirect_stderr": "true",
            "stdout_logfile": "NONE",
        },
    )


def daemon_conf(run: str, log: str) -> str:
    """Return the file that describes supervisord: reached by a private socket, programs beside it in ``programs/``."""
    socket = _path(f"{run}/supervisor.sock")
    sections = {
        "unix_http_server": {"file": socket, "chmod": "0700"},
        "rpcinterface:supervisor": {"supervisor.rpcinterface_factory": f"supervisor.rpcinterface:{FACTORY}"},
        # Before a program starts it ends what a killed predecessor left; then it rotates the programs' logs.
        "rpcinterface:lakehouse": {
            "supervisor.rpcinterface_factory": "crypto_lakehouse.supervision:make",
            "log_folder": _path(log),
            "max_bytes": str(LOG_BYTES),
            "backups": str(LOG_BACKUPS),
        },
        "supervisorctl": {"serverurl": f"unix://{socket}"},
        "supervisord": {
            "pidfile": _path(f"{run}/supervisord.pid"),
            "logfile": _path(f"{log}/supervisord.log"),
            "logfile_maxbytes": str(LOG_BYTES),
            "logfile_backups": str(LOG_BACKUPS),
            "loglevel": "info",
            "directory": _path(run),
            "childlogdir": _path(log),
            "umask": "077",
            "minfds": str(OPEN_FILES),
            "nodaemon": "false",
        },
        "include": {"files": "programs/*.conf"},
    }
    return "\n".join(_section(name, words) for name, words in sections.items())


def _section(name: str, words: Mapping[str, str]) -> str:
    return "".join([f"[{name}]\n", *(f"{word}={value}\n" for word, value in words.items())])
