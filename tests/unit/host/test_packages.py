# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.packages import (
    PythonSources,
    apt_packages,
    pip_files,
    python_packages,
    python_sources,
)


class Index(http.server.BaseHTTPRequestHandler):
    """An index with one package, for clients with the password."""

    def do_GET(self) -> None:
        known = self.headers.get("Authorization") in (None, "Basic dXNlcjpwYXNzd29yZA==")
        self.send_response(200 if known and self.path == "/simple/duck-db/" else 404)
        self.end_headers()
        self.wfile.write(b"<a>x</a>")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class calls it so
        return


@pytest.fixture
def index() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Index) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"127.0.0.1:{server.server_port}/simple"
        server.shutdown()
        thread.join()


def found(names: list[str], sources: PythonSources) -> dict[str, bool]:
    return {name: answer.found for name, answer in python_packages(names, sources, 2.0).items()}


def test_an_index_that_nobody_answers_for_has_nothing() -> None:
    assert found(["duckdb"], PythonSources("http://127.0.0.1:1/simple")) == {"duckdb": False}


def test_a_name_is_asked_for_as_an_index_spells_it(index: str) -> None:
    sources = PythonSources(f"http://{index}")
    assert found(["Duck.DB", "duck_db", "other"], sources) == {"Duck.DB": True, "duck_db": True, "other": False}


def test_credentials_of_an_index_are_sent_and_not_shown(index: str) -> None:
    sources = PythonSources(f"http://user:password@{index}/")
    assert found(["duck-db"], sources) == {"duck-db": True}
    assert "password" not in sources.shown()
    assert found(["duck-db"], PythonSources(f"http://user:wrong@{index}")) == {"duck-db": False}


def test_the_clock_of_the_index_is_returned_even_where_it_has_nothing(index: str) -> None:
    answer = python_packages(["other"], PythonSources(f"http://{index}"), 2.0)["other"]
    assert answer.server_time_s is not None


def test_one_of_several_sources_is_enough(index: str, tmp_path: Path) -> None:
    (tmp_path / "some_Wheel-1.0-py3-none-any.whl").touch()
    sources = PythonSources(f"http://{index}", places=(str(tmp_path),))
    assert found(["duck-db", "some-wheel", "some"], sources) == {"duck-db": True, "some-wheel": True, "some": True}
    assert found(["wheel"], sources) == {"wheel": False}


def test_an_index_may_be_a_folder(tmp_path: Path) -> None:
    (tmp_path / "duckdb").mkdir()
    (tmp_path / "duckdb/index.html").touch()
    sources = PythonSources(f"file://{tmp_path}")
    assert found(["duckdb", "other"], sources) == {"duckdb": True, "other": False}


@pytest.mark.parametrize(("status", "expected"), [(0, True), (1, False)])
def test_without_any_setting_the_installer_is_asked_which_knows_its_own_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, expected: bool
) -> None:
    assert python_sources(None, {}, []) == PythonSources()
    said = tmp_path / "arguments"
    (tmp_path / "uv").write_text(f'#!/bin/sh\necho "$@" >> {said}\nexit {status}\n')
    (tmp_path / "uv").chmod(0o755)
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    assert found(["duckdb"], PythonSources()) == {"duckdb": expected}
    assert "--dry-run" in said.read_text()
    assert "default index" in PythonSources().shown()


@pytest.mark.parametrize(("missing", "questions"), [("", 1), ("prefect", 3)])
def test_the_installer_is_asked_once_for_all_packages_that_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str, questions: int
) -> None:
    said = tmp_path / "arguments"
    refuse = f'case "$*" in *{missing}*) exit 1;; esac\n' if missing else ""
    (tmp_path / "uv").write_text(f'#!/bin/sh\necho "$@" >> {said}\n{refuse}')
    (tmp_path / "uv").chmod(0o755)
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    names = ["duckdb", "prefect"]
    assert found(names, PythonSources()) == {name: name != missing for name in names}
    assert len(said.read_text().splitlines()) == questions


def test_a_name_that_a_configured_source_has_is_not_asked_for_again(
    index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", "/nonexistent/python")
    monkeypatch.setenv("PATH", "/nonexistent")
    assert found(["duck-db"], PythonSources(others=(f"http://{index}",))) == {"duck-db": True}


def test_the_option_wins_over_the_environment_and_that_over_files(tmp_path: Path) -> None:
    system, user = tmp_path / "system.conf", tmp_path / "user.conf"
    system.write_text("[global]\nindex-url = http://system\nfind-links = /wheels\ncert = /ca.pem\n")
    user.write_text("[global]\nindex-url = http://user\nextra-index-url =\n    http://one\n    http://two\n")
    files = [system, user, tmp_path / "missing.conf"]
    from_files = PythonSources("http://user", ("http://one", "http://two"), ("/wheels",), "/ca.pem")
    assert python_sources("", {}, files) == from_files
    environment = {"PIP_INDEX_URL": "http://environment", "PIP_FIND_LINKS": "/other"}
    from_environment = PythonSources("http://environment", ("http://one", "http://two"), ("/other",), "/ca.pem")
    assert python_sources("", environment, files) == from_environment
    assert python_sources("http://option", environment, files).indexes == ("http://option",)
    assert python_sources("", {"UV_DEFAULT_INDEX": "http://uv", **environment}, []).indexes == ("http://uv",)


def test_a_damaged_file_of_pip_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "pip.conf").write_bytes(b"index-url = x\n\xff")
    assert python_sources(None, {}, [tmp_path / "pip.conf"]).indexes == ()
    assert pip_files("/home/u")[-1] == Path("/home/u/.config/pip/pip.conf")


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("echo 'a:'; echo '  Installed: (none)'; echo '  Candidate: 1.2'", {"a": True, "b": False}),
        ("printf 'a:\\n  Candidate: 1\\nb:\\n  Candidate: (none)\\n'", {"a": True, "b": False}),
        ("printf 'a:\\n  Candidate: 1\\nb:\\n  Candidate: 2:3\\n'", {"a": True, "b": True}),
        ("exit 100", {"a": False, "b": False}),
    ],
)
def test_apt_has_what_it_knows_a_candidate_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: str, expected: dict[str, bool]
) -> None:
    for name, script in (("apt-cache", policy), ("apt-get", "exit 100")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert {name: answer.found for name, answer in apt_packages(["a", "b"], 5.0).items()} == expected


def test_apt_may_answer_later_than_a_request_must(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "apt-cache").write_text("#!/bin/sh\nsleep 0.5\nprintf 'a:\\n  Candidate: 1\\n'\n")
    (tmp_path / "apt-cache").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert apt_packages(["a"], timeout_s=0.05)["a"].found is True


def test_lists_that_were_never_read_leave_it_to_whether_a_source_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, index: str
) -> None:
    monkeypatch.setattr("pathlib.Path.is_dir", lambda _: False)
    for name, script in (("apt-cache", "true"), ("apt-get", f"echo 'http://{index} stable'; echo 'cdrom:/x stable'")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert apt_packages(["a"], 5.0)["a"].found is False
    monkeypatch.setattr(Index, "do_GET", lambda request: (request.send_response(200), request.end_headers()))
    assert apt_packages(["a"], 5.0)["a"].found is True


def test_uv_is_told_the_sources_in_its_own_words() -> None:
    sources = PythonSources(
        "https://mirror.example.org/simple", ("file:///srv/simple",), ("/srv/wheels", "/srv/more"), "/etc/ca.pem"
    )
    assert sources.uv_environment() == {
        "UV_DEFAULT_INDEX": "https://mirror.example.org/simple",
        "UV_INDEX": "file:///srv/simple",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_FIND_LINKS": "/srv/wheels,/srv/more",
        "SSL_CERT_FILE": "/etc/ca.pem",
    }


def test_uv_keeps_its_own_defaults_where_nothing_is_configured() -> None:
    assert PythonSources().uv_environment() == {}


def test_a_source_with_credentials_is_left_out_of_what_uv_is_told() -> None:
    sources = PythonSources(
        "https://user:hunter2@mirror.example.org/simple", ("https://user:hunter2@other.example.org/simple",)
    )
    assert "hunter2" not in str(sources.uv_environment())
