# SPDX-License-Identifier: GPL-3.0-or-later
"""supervisor's own parser reads the generated configuration."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from supervisor.options import ServerOptions  # type: ignore[import-not-found,import-untyped,unused-ignore]

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.catalogue.host.supervisor import (
    Program,
    daemon_conf,
    program_conf,
    unwritable,
)
from tests.unit.catalogue.descriptions import LINES

PATH_NAMES = st.lists(
    st.one_of(st.sampled_from([*list("%'\"\\ $=,()[]{}:~-äλ"), "%(ENV_HOME)s"]), st.characters(codec="utf-8")),
    min_size=1,
    max_size=10,
).map("".join)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return one folder for all examples of a property."""
    return tmp_path_factory.mktemp("conf")


APPLICATION = Path(__file__).parents[3] / "roles/application/files/src"


@pytest.fixture(autouse=True, scope="module")
def _application_on_the_path() -> Iterator[None]:
    """supervisord imports the interface that its configuration names."""
    sys.path.insert(0, str(APPLICATION))
    yield
    sys.path.remove(str(APPLICATION))


def read_back(tmp_path: Path, *programs: Program, run: Path | None = None) -> ServerOptions:
    """Return the configuration that supervisord reads; folders of logs have to exist, as they do on a machine."""
    folder = run or tmp_path
    (tmp_path / "programs").mkdir(exist_ok=True)
    for program in programs:
        path = tmp_path / "programs" / f"{program.name}.conf"
        path.write_text(program_conf(program), encoding="utf-8")
    conf = tmp_path / "supervisord.conf"
    conf.write_text(daemon_conf(str(folder), str(folder)), encoding="utf-8")
    options = ServerOptions()
    options.realize(["-c", str(conf)], doc="")
    return options


def config_of(options: ServerOptions) -> Any:
    (group,) = options.process_group_configs
    (config,) = group.process_configs
    return config


def program(folder: Path, command: tuple[str, ...] = ("/bin/true",), **words: Any) -> Program:
    given_words = {"stop_signal": "INT", "stop_timeout_s": 45, **words}
    return Program(name="api", command=command, directory=str(folder), priority=3, **given_words)


@given(st.lists(LINES, max_size=6))
def test_every_argument_comes_back_as_it_was(folder: Path, arguments: list[str]) -> None:
    config = config_of(read_back(folder, program(folder, ("/bin/run", *arguments))))
    assert shlex.split(config.command) == ["/bin/run", *arguments]


@given(PATH_NAMES.filter(lambda name: "/" not in name and "\0" not in name and not unwritable(f"/srv/{name}")))
def test_every_home_that_is_not_refused_comes_back_as_it_was(folder: Path, name: str) -> None:
    home = folder / name
    home.mkdir(exist_ok=True)
    options = read_back(folder, program(home), run=home)
    config = config_of(options)
    assert config.directory == str(home)
    (rotation,) = (words for name, _factory, words in options.rpcinterface_factories if name == "lakehouse")
    assert rotation == {"log_folder": str(home), "max_bytes": "10485760", "backups": "3"}
    assert options.pidfile == str(home / "supervisord.pid")
    assert options.logfile == str(home / "supervisord.log")


@pytest.mark.parametrize("path", ["/a ;b", "/a #b", "/a/%(here)s", "/a\nb", "/a ", " /a", "/a\tb"])
def test_folders_that_the_format_cannot_hold_are_refused(path: str) -> None:
    complaint = unwritable(path)
    assert complaint is not None
    assert repr(path) in complaint[0]


def test_a_program_is_kept_running_and_stopped_with_its_children(tmp_path: Path) -> None:
    config = config_of(read_back(tmp_path, program(tmp_path)))
    assert (config.autostart, config.startretries >= 20, config.stopasgroup, config.killasgroup) == (True,) * 4
    assert (config.priority, config.stopsignal, config.stopwaitsecs) == (3, signal.SIGINT, 45)
    # It writes its log itself, and needs no pipe that closes with supervisord.
    assert config.redirect_stderr
    assert config.stdout_logfile is None


def test_a_program_that_ends_its_children_by_itself_is_signalled_alone(tmp_path: Path) -> None:
    config = config_of(read_back(tmp_path, program(tmp_path, stop_group=False)))
    # Processes left after the timeout are still killed with it.
    assert (config.stopasgroup, config.killasgroup) == (False, True)


def test_the_supervisor_is_reached_by_a_private_socket_alone(tmp_path: Path) -> None:
    options = read_back(tmp_path)
    (server,) = options.server_configs
    assert (server["section"], server["file"], server["chmod"]) == (
        "unix_http_server",
        str(tmp_path / "supervisor.sock"),
        0o700,
    )
    assert options.umask == 0o077
    assert not options.nodaemon
    assert options.logfile_maxbytes > 0
