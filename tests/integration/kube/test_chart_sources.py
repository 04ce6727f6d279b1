# SPDX-License-Identifier: GPL-3.0-or-later
"""Charts from a real repository over HTTPS and a real OCI registry, with the real Helm and without a cluster."""

from __future__ import annotations

import hashlib
import os
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.helm.chart_pull import ChartError, Kept, Wanted
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.helm.charts import Chart, fetch
from tests.integration.kube.chart_sources import NAMES, Account, Keys, Registry, Repository, write_chart
from tests.integration.kube.roleplay import HELM, command, environment, play_tasks
from tests.integration.playbook import kill
from tests.unit.kube.tunnel import Proxy

ACCOUNT = Account("puller", "pass-word-of-charts-8841")
WRONG = Account("puller", "wrong-word-of-charts-2290")
VERSION = "1.0.0"


@dataclass(frozen=True)
class Sources:
    """A public repository, and a registry with credentials, with the same chart."""

    folder: Path
    keys: Keys
    package: Path
    repository: Repository
    registry: Registry

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.package.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sources]:
    folder = tmp_path_factory.mktemp("sources")
    for name in ("charts", "repository", "registry"):
        (folder / name).mkdir()
    keys, package = Keys(folder), write_chart(folder / "charts", VERSION)
    with (
        Repository(folder / "repository", keys) as repository,
        Registry(folder / "registry", keys, ACCOUNT) as registry,
    ):
        repository.publish(package)
        registry.push(package)
        yield Sources(folder, keys, package, repository, registry)


@pytest.fixture(autouse=True)
def _repository_as_it_was(sources: Sources) -> Iterator[None]:
    """Undo a test's changes of the repository."""
    sources.repository.asked.clear()
    yield
    repository = sources.repository
    repository.account, repository.cut, repository.held = None, False, None
    repository.begun.clear()
    repository.publish(sources.package)


@dataclass(frozen=True)
class Desk:
    """A user whose only program is Helm."""

    folder: Path
    sources: Sources

    def wanted(self, source: str, **changes: Any) -> Wanted:
        """Return the chart with its possible sources."""
        sources = self.sources
        common = Wanted("sample", VERSION, ca_bundle=str(sources.keys.bundle))
        if source == "repository":
            found = replace(common, repository=sources.repository.url)
        else:
            account = {"username": ACCOUNT.username, "password": ACCOUNT.password}
            found = replace(common, repository=sources.registry.url, **account)
        return replace(found, **changes)

    def get(self, wanted: Wanted, **variables: str) -> Chart:
        into = self.folder / f"into-{time.monotonic_ns()}"
        into.mkdir()
        known = {**environment(self.folder), **variables}

        def run(line: Sequence[str]) -> tuple[int, str, str]:
            done = subprocess.run(line, capture_output=True, text=True, env=known, timeout=60, check=False)
            return done.returncode, done.stdout, done.stderr

        return fetch(wanted, str(HELM), run, into, self.kept)

    @property
    def kept(self) -> Kept:
        return Kept.of(environment(self.folder))

    def told(self) -> list[Path]:
        """Return the files that were downloaded in the end."""
        return list(self.kept.folder.glob("*"))


@pytest.fixture
def desk(tmp_path: Path, sources: Sources) -> Desk:
    return Desk(tmp_path, sources)


BOTH = pytest.mark.parametrize("source", ["repository", "registry"])
REFUSED: dict[str, tuple[dict[str, str], str]] = {
    "an unknown authority": ({"ca_bundle": ""}, r"unknown authority.*lakehouse_ca_bundle"),
    "an unknown version": ({"version": "9.0.0"}, r"9\.0\.0.* cannot be had from .*not found"),
    "an unknown chart": ({"name": "smaple"}, r"smaple 1\.0\.0 cannot be had from .*not found"),
    "another checksum": ({"checksum": "0" * 64}, f"and not sha256:{'0' * 64}"),
    "a server that is not there": (
        {"repository": "https://127.0.0.1:1"},
        r"connection refused.*a mirror as the repository",
    ),
}


@BOTH
@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_had_is_refused_with_a_reason_and_leaves_nothing(source: str, case: str, desk: Desk) -> None:
    changes, message = REFUSED[case]
    with pytest.raises(ChartError, match=message) as raised:
        desk.get(desk.wanted(source, **changes))
    assert not any(form in str(raised.value) for form in ACCOUNT.forms)
    assert desk.told() == []


def test_another_authority_than_the_servers_is_not_trusted(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Keys(tmp_path / "other").bundle
    for source in ("repository", "registry"):
        with pytest.raises(ChartError, match="Name the authority of its certificate"):
            desk.get(desk.wanted(source, ca_bundle=str(other)))


@BOTH
@pytest.mark.parametrize("account", [WRONG, Account("", "")], ids=["wrong", "none"])
def test_who_may_not_pull_is_told_how_to_say_who_they_are(source: str, account: Account, desk: Desk) -> None:
    desk.sources.repository.account = ACCOUNT
    with pytest.raises(
        ChartError, match=r"Set credentials with permission to pull it.*lakehouse_chart_username"
    ) as raised:
        desk.get(desk.wanted(source, username=account.username, password=account.password))
    assert WRONG.password not in str(raised.value)


def test_a_package_that_differs_from_the_index_of_its_repository_is_refused(desk: Desk) -> None:
    desk.sources.repository.forge("sample", "1" * 64)
    with pytest.raises(ChartError, match=f"the repository's index says sha256:{'1' * 64}"):
        desk.get(desk.wanted("repository"))


def test_a_package_that_was_changed_in_the_registry_is_refused(desk: Desk) -> None:
    blobs = desk.sources.registry.folder / "blobs"
    (blob,) = blobs.glob(f"docker/registry/v2/blobs/sha256/*/{desk.sources.checksum}/data")
    content = blob.read_bytes()
    blob.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    try:
        with pytest.raises(ChartError, match="cannot be had from oci://"):
            desk.get(desk.wanted("registry"))
    finally:
        blob.write_bytes(content)


def test_a_download_that_is_cut_leaves_nothing_and_the_next_one_is_whole(desk: Desk) -> None:
    wanted = desk.wanted("repository", checksum=desk.sources.checksum)
    desk.sources.repository.cut = True
    with pytest.raises(ChartError, match="unexpected EOF"):
        desk.get(wanted)
    assert desk.told() == []
    desk.sources.repository.cut = False
    assert desk.get(wanted).checksum == desk.sources.checksum


@BOTH
def test_what_is_pinned_is_downloaded_once(source: str, desk: Desk) -> None:
    wanted = desk.wanted(source, checksum=f"sha256:{desk.sources.checksum}")
    assert desk.get(wanted).version == VERSION
    asked, log = list(desk.sources.repository.asked), desk.sources.registry.log
    assert desk.get(wanted).checksum == desk.sources.checksum
    assert (desk.sources.repository.asked, desk.sources.registry.log) == (asked, log)


def test_a_path_asks_no_network(desk: Desk) -> None:
    log = desk.sources.registry.log
    chart = desk.get(Wanted("sample", VERSION, path=str(desk.sources.package), checksum=desk.sources.checksum))
    assert chart.version == VERSION
    assert (desk.sources.repository.asked, desk.sources.registry.log) == ([], log)


class Onlooker:
    """Another user of the machine: reads every command line, and every file with sufficient mode."""

    def __init__(self, forms: Sequence[str], *folders: Path) -> None:
        self.forms, self.folders, self.seen = [form.encode() for form in forms], folders, set[str]()
        self.helms = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self._over.wait(0.02):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    line = path.read_bytes()
                except OSError:
                    continue
                self.helms += line.startswith(os.fsencode(HELM))
                if any(form in line for form in self.forms):
                    self.seen.add(line.decode(errors="replace"))
            for folder in self.folders:
                self._read(folder)

    def _read(self, folder: Path) -> None:
        """Record the readable content of a folder, as another user; files deleted meanwhile are skipped."""
        with suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                with suppress(OSError):
                    self._look(entry)

    def _look(self, entry: os.DirEntry[str]) -> None:
        mode = entry.stat(follow_symlinks=False).st_mode
        if entry.is_dir(follow_symlinks=False):
            if mode & 0o005 == 0o005:
                self._read(Path(entry.path))
        elif mode & 0o004 and any(form in Path(entry.path).read_bytes() for form in self.forms):
            self.seen.add(entry.path)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        self._thread.join()


ACCOUNT_WORDS = ("username", "password")


SOURCE_WORDS = ("version", "repository", "path", "checksum")


def of(wanted: Wanted, words: tuple[str, ...]) -> dict[str, str]:
    """Return some of the fields of a wanted chart."""
    return {word: getattr(wanted, word) for word in words}


def getting(desk: Desk, wanted: Wanted, **words: Any) -> dict[str, Any]:
    """Return a task that downloads a chart for a cluster that is only planned."""
    into = desk.folder / f"task-{time.monotonic_ns()}"
    into.mkdir(mode=0o700)
    release = {"release_name": "sample", "release_namespace": "samples", "kubernetes_version": "1.35"}
    account = {f"chart_{word}": value for word, value in of(wanted, ACCOUNT_WORDS).items()}
    common = {"chart": wanted.name, **of(wanted, (*SOURCE_WORDS, "ca_bundle"))}
    given = {**common, **account, **release, "binary_path": str(HELM), "destination": str(into)}
    return {"crypto_lakehouse.platform.helm_chart": given, **words}


def installing(wanted: Wanted) -> dict[str, Any]:
    """Return a task that runs the role for a cluster that is only planned."""
    given = {
        "name": "sample",
        "namespace": "samples",
        "chart": wanted.name,
        "source": of(wanted, SOURCE_WORDS),
        "helm": {"binary": str(HELM), **of(wanted, ACCOUNT_WORDS)},
        "ca_bundle": wanted.ca_bundle,
        "kubernetes_version": "1.35",
    }
    variables = {f"helm_release_{word}": value for word, value in given.items()}
    return {"ansible.builtin.include_role": {"name": "crypto_lakehouse.platform.helm_release"}, "vars": variables}


def test_a_password_is_in_no_command_line_no_output_and_no_file_that_others_can_read(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    # Not below the test's folder with its long name: Ansible creates a socket there, whose path is limited to 108
    # characters.
    temporary, log = tmp_path_factory.mktemp("t"), desk.folder / "ansible.log"
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setenv("ANSIBLE_LOG_PATH", str(log))
    monkeypatch.setenv("ANSIBLE_REMOTE_TMP", str(desk.folder / "remote"))
    desk.sources.repository.account = ACCOUNT
    account = {"username": ACCOUNT.username, "password": ACCOUNT.password}
    tasks = [installing(desk.wanted(source, **account)) for source in ("repository", "registry")]
    open_to_all = (temporary, *(desk.folder / name for name in ("ansible", "remote", "helm", "cache")))
    with Onlooker(ACCOUNT.forms, *open_to_all) as eye:
        played = play_tasks(desk.folder, tasks, "-vvvv", "--check", "--diff", facts=("helm_release_result",))
    assert played.succeeded().facts["helm_release_result"]["chart"]["checksum"] == desk.sources.checksum
    assert "kind: Sample" in played.output
    assert eye.helms > 0
    assert eye.seen == set()
    for form in ACCOUNT.forms:
        assert form not in played.output
        assert form not in log.read_text("utf-8")
    kept = (*desk.folder.rglob("*"), *temporary.rglob("*"))
    left = [path for path in kept if path.is_file() and path.name != "play.json"]
    assert [path for path in left if any(form.encode() in path.read_bytes() for form in ACCOUNT.forms)] == []
    assert list(temporary.glob("lakehouse-chart-*")) == []


def test_a_refusal_shows_no_password(desk: Desk) -> None:
    wanted = desk.wanted("registry", username=WRONG.username, password=WRONG.password)
    played = play_tasks(desk.folder, [getting(desk, wanted)], "-vvv").failed()
    assert "Set credentials with permission to pull it" in " ".join(played.output.split())
    assert not any(form in played.output for form in WRONG.forms)


def test_everything_comes_through_the_proxy_of_the_inventory(desk: Desk) -> None:
    places = {
        "repository": f"https://charts.lakehouse.test:{desk.sources.repository.port}",
        "registry": f"oci://registry.lakehouse.test:{desk.sources.registry.port}/charts",
    }
    with Proxy(hosts=dict.fromkeys(NAMES, "127.0.0.1")) as proxy:
        clients = {"HTTPS_PROXY": f"http://{proxy.address}", "NO_PROXY": ".svc,.cluster.local"}
        wanted = [desk.wanted(source, repository=place) for source, place in places.items()]
        play_tasks(desk.folder, [getting(desk, one, environment=clients) for one in wanted]).succeeded()
    ports = (desk.sources.repository.port, desk.sources.registry.port)
    assert {asked for asked, _headers in proxy.asked} == {
        f"{name}:{port}" for name, port in zip(NAMES, ports, strict=True)
    }


def test_without_its_proxy_a_name_of_the_closed_network_is_not_found(desk: Desk) -> None:
    wanted = desk.wanted("repository", repository=f"https://{NAMES[0]}:{desk.sources.repository.port}")
    with pytest.raises(ChartError, match="Where the network is closed, name a mirror"):
        desk.get(wanted)


def test_a_run_that_is_killed_in_a_download_leaves_nothing_that_the_next_one_would_take(desk: Desk) -> None:
    repository = desk.sources.repository
    repository.held = threading.Event()
    wanted = desk.wanted("repository", checksum=desk.sources.checksum)
    line = command(desk.folder, [getting(desk, wanted)])
    process = subprocess.Popen(
        line, cwd=desk.folder, env=environment(desk.folder), stdout=subprocess.DEVNULL, start_new_session=True
    )
    try:
        assert repository.begun.wait(60)
    finally:
        kill(process)
        repository.held.set()
        repository.held = None
    assert desk.told() == []
    assert desk.get(wanted).checksum == desk.sources.checksum
