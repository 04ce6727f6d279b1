# SPDX-License-Identifier: GPL-3.0-or-later
"""The command `lakehouse-launch`: set environment variables from a private file, then execute a program.

A supervisor's own configuration and the process list never contain a secret this way. With `--log-file` the
program writes to its log itself and outlives its supervisor, because it does not need the supervisor's pipe. With
`--lock-file` PostgreSQL starts even when another process has the process id of its former server. Only the
standard library is imported, because every service of a host starts with this command.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import stat
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NoReturn

NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
MAX_FILE_BYTES: Final = 1_048_576
USAGE_ERROR: Final = 64
"""EX_USAGE of sysexits.h; 126 and 127 are a shell's codes for "cannot run" and "not found"."""


class LaunchError(Exception):
    """The program cannot be started; the message never contains a value from the file."""


def read_environment_file(path: str) -> dict[str, str]:
    """Return the variables of `path`, one `KEY=value` a line.

    The value is everything up to the end of the line, literally: no quotes, escapes, expansion or
    trailing comment. Empty lines and lines that start with `#` are skipped.

    Raises:
        LaunchError: for a file that is unreadable, not regular, readable or writable by other users than its owner,
        not UTF-8, or malformed.
    """
    text = _read_private(path)
    variables: dict[str, str] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if not line or line.startswith("#"):
            continue
        name, separator, value = line.partition("=")
        if not separator or not NAME.fullmatch(name):
            raise LaunchError(f"{path}, line {number}: expected NAME=value")
        if "\0" in value:
            raise LaunchError(f"{path}, line {number}: {name} holds a NUL byte")
        if name in variables:
            raise LaunchError(f"{path}, line {number}: {name} is given twice")
        variables[name] = value
    return variables


def _read_private(path: str) -> str:
    # The checks are made on the open file: the path could be replaced between check and use.
    # O_NONBLOCK, so that a named pipe in its place is rejected instead of blocking.
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise LaunchError(f"{path}: {error.strerror}") from None
    try:
        _check_private(path, os.fstat(descriptor))
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read().decode()
    except UnicodeDecodeError:
        raise LaunchError(f"{path}: not UTF-8 text") from None
    finally:
        os.close(descriptor)


def _check_private(path: str, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise LaunchError(f"{path}: not a regular file")
    if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        mode = stat.S_IMODE(status.st_mode)
        raise LaunchError(f"{path}: mode {mode:04o} lets others in; run chmod 600 on it")
    if status.st_uid not in (0, os.geteuid()):
        raise LaunchError(f"{path}: belongs to another user")
    if status.st_size > MAX_FILE_BYTES:
        raise LaunchError(f"{path}: larger than {MAX_FILE_BYTES} bytes")


def write_to(path: str) -> None:
    """Redirect the output of this process and its program to the end of a file that only its owner can read.

    Raises:
        LaunchError: when the file cannot be opened.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o600)
    except OSError as error:
        raise LaunchError(f"{path}: {error.strerror}") from None
    for standard in (1, 2):
        os.dup2(descriptor, standard)
    os.close(descriptor)


def take_over(lock_file: str) -> None:
    """Write this process's id into a lock file of PostgreSQL whose server does not run.

    PostgreSQL does not start while a process of its own user has the id in the file's first line. After a crash or a
    reboot that may be any other service, for as long as it runs. PostgreSQL takes over a lock with its own id, after
    all further checks, such as for shared memory that sessions of the former server still use. The server still runs
    while a process has its data folder, in the second line, as working directory. An unreadable or unwritable file
    is left unchanged, and PostgreSQL reports the error.
    """
    with contextlib.suppress(OSError, ValueError, IndexError):
        lines = Path(lock_file).read_text(encoding="utf-8").splitlines(keepends=True)
        holder = abs(int(lines[0]))
        if not _is_alive(holder) or _works_in(lines[1].rstrip("\n")):
            return
        new = Path(f"{lock_file}.new")
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.writelines([f"{os.getpid()}\n", *lines[1:]])
        new.replace(lock_file)
        print(f"lakehouse-launch: {lock_file} named process {holder}, which is another program's", file=sys.stderr)


def _is_alive(pid: int) -> bool:
    """Return whether PostgreSQL would consider the process a server: not if another user runs it."""
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return pid not in (os.getpid(), os.getppid())


def _works_in(folder: str) -> bool:
    """Return whether any process visible to this user has the folder as its working directory."""
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if Path(entry.path, "cwd").samefile(folder):
                    return True
    return False


def execute(command: Sequence[str], environment: Mapping[str, str]) -> NoReturn:
    """Replace this process with `command`, found on the PATH of `environment`, without a shell.

    Raises:
        LaunchError: when the program does not exist or cannot be executed.
    """
    try:
        os.execvpe(command[0], list(command), dict(environment))  # noqa: S606 - without a shell is the point
    except FileNotFoundError:
        raise LaunchError(f"{command[0]}: command not found") from None
    except OSError as error:
        raise LaunchError(f"{command[0]}: {error.strerror}") from None


def main(argv: Sequence[str] | None = None) -> int:
    """Start a program; returns an exit status only when that failed."""
    parser = argparse.ArgumentParser(prog="lakehouse-launch", description=__doc__.partition("\n")[0])
    parser.add_argument("--environment-file", metavar="FILE")
    parser.add_argument("--log-file", metavar="FILE")
    parser.add_argument("--lock-file", metavar="FILE", action="append", default=[])
    parser.add_argument("command", nargs="+", metavar="COMMAND", help="after --, with its arguments")
    arguments = list(sys.argv[1:] if argv is None else argv)
    if "--" not in arguments:
        parser.error("the command must follow --")
    split = arguments.index("--")
    options = parser.parse_args([*arguments[:split], "--", *arguments[split + 1 :]])
    try:
        if options.log_file:
            write_to(options.log_file)
        variables = read_environment_file(options.environment_file) if options.environment_file else {}
    except LaunchError as error:
        print(f"lakehouse-launch: {error}", file=sys.stderr)
        return USAGE_ERROR
    for lock_file in options.lock_file:
        take_over(lock_file)
    try:
        execute(options.command, {**os.environ, **variables})
    except LaunchError as error:
        print(f"lakehouse-launch: {error}", file=sys.stderr)
        return 126


if __name__ == "__main__":
    sys.exit(main())
