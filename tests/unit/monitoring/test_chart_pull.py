# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests to Helm for a package, the receivers of a password, and the kept part of earlier downloads."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.helm import charts
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.helm.chart_pull import (
    ChartError,
    Kept,
    Wanted,
    pull,
)
from ansible_collections.crypto_lakehouse.platform.tests.unit.monitoring.charts_double import (
    HELM,
    Helm,
    make_package,
)

REPOSITORY, REGISTRY = "https://charts.example", "oci://mirror.example:5000/charts"
PLACE = {"name": "lakehouse", "url": REPOSITORY, "caFile": "/ca.pem"}
ACCOUNT = {"username": "puller", "password": "word-7713"}


def _package() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return make_package(Path(folder) / "stack.tgz").read_bytes()


PACKAGE = _package()
CHECKSUM = hashlib.sha256(PACKAGE).hexdigest()


class Pulling(Helm):
    """A Helm that downloads a package, and its configuration files, read during the run."""

    def __init__(self, index: str | None = None, answers: dict[str, tuple[int, str, str]] | None = None) -> None:
        super().__init__(answers or {}, lambda folder: (folder / "stack-1.2.3.tgz").write_bytes(PACKAGE))
        self.index, self.files = index, dict[str, tuple[int, Any]]()

    def __call__(self, command: Sequence[str]) -> tuple[int, str, str]:
        given = dict(itertools.pairwise(command))
        for option in ("--registry-config", "--repository-config"):
            if option in given:
                path = Path(given[option])
                self.files[option] = path.stat().st_mode & 0o777, json.loads(path.read_text("utf-8"))
        answer = super().__call__(command)
        if command[1:3] == ["repo", "update"]:
            cache = Path(given["--repository-cache"])
            cache.mkdir()
            (cache / "lakehouse-index.yaml").write_text(self.index or "entries: {}\n", "utf-8")
        return answer


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (Wanted("stack"), "cannot use the chart stack: it has no source"),
        (Wanted("stack", repository=REPOSITORY), "it has no version. Set `version`"),
        (Wanted("stack", "1", "http://charts.example"), "is neither https:// nor oci://"),
        (Wanted("stack", "1", "https://joe:word@charts.example"), "by the options `chart_username` and"),
        (Wanted("stack", "1", REPOSITORY, username="joe"), "is not complete: give both username and password"),
        (Wanted("stack", "1", REGISTRY, password="word"), "is not complete: give both username and password"),
    ],
)
def test_what_cannot_be_pulled_is_refused_before_helm_runs(wanted: Wanted, message: str, tmp_path: Path) -> None:
    helm = Helm()
    with pytest.raises(ChartError, match=message) as raised:
        pull(wanted, HELM, helm, tmp_path)
    assert "word@" not in str(raised.value)
    assert helm.commands == []


_401 = "failed to fetch https://charts.example/index.yaml : 401 Unauthorized"
_NOT_UPDATED = f'...Unable to get an update from the "lakehouse" chart repository (url):\n\t{_401}\n'
_UNTRUSTED = "tls: failed to verify certificate: x509: certificate signed by unknown authority"


@pytest.mark.parametrize(
    ("repository", "answers", "said", "remedy"),
    [
        (REPOSITORY, {"repo": (1, _NOT_UPDATED, "Error: failed to update")}, _401, "username"),
        # Helm 3 succeeds.
        (REPOSITORY, {"repo": (0, _NOT_UPDATED, "")}, _401, "username"),
        (REPOSITORY, {"repo": (1, "", f"Error: {_UNTRUSTED}")}, _UNTRUSTED, "lakehouse_ca_bundle"),
        (REPOSITORY, {"pull": (1, "", "Error: unexpected EOF")}, "unexpected EOF", "a package or folder as the path"),
        (REGISTRY, {"pull": (1, "", "Error: basic credential not found")}, "basic credential", "chart_username"),
        (REGISTRY, {"pull": (1, "", "Error: r/stack:1.2.3: not found")}, "not found", "a mirror as the repository"),
        (REGISTRY, {"pull": (1, "", "")}, "Helm says: nothing", "a mirror as the repository"),
    ],
)
def test_what_cannot_be_had_says_what_helm_says_and_what_to_do(
    repository: str, answers: dict[str, tuple[int, str, str]], said: str, remedy: str, tmp_path: Path
) -> None:
    with pytest.raises(ChartError) as raised:
        pull(Wanted("stack", "1.2.3", repository), HELM, Helm(answers), tmp_path)
    assert f"the chart stack 1.2.3 cannot be had from {repository}. Helm says: " in str(raised.value)
    assert said in str(raised.value)
    assert remedy in str(raised.value)


@pytest.mark.parametrize("listed", ["0" * 64, "sha256:" + "0" * 64])
def test_a_package_that_the_index_lists_with_another_digest_is_refused(listed: str, tmp_path: Path) -> None:
    index = f"entries:\n  stack:\n  - version: 1.2.2\n  - {{version: 1.2.3, digest: '{listed}'}}\n"
    with pytest.raises(ChartError, match=f"and the repository's index says sha256:{'0' * 64}"):
        pull(Wanted("stack", "1.2.3", REPOSITORY), HELM, Pulling(index), tmp_path)


@pytest.mark.parametrize(
    "index", ["entries: {stack: [{version: 1.2.3}]}", "entries: {stack: [{version: 1.2.3, digest: SUM}]}"]
)
def test_a_package_with_the_digest_of_the_index_or_with_none_is_taken(index: str, tmp_path: Path) -> None:
    index = index.replace("SUM", CHECKSUM)
    assert pull(Wanted("stack", "1.2.3", f"{REPOSITORY}/"), HELM, Pulling(index), tmp_path).name == "stack-1.2.3.tgz"


@pytest.mark.parametrize(
    ("repository", "option", "expected"),
    [
        (
            REPOSITORY,
            "--repository-config",
            {
                "apiVersion": "v1",
                "repositories": [
                    {
                        "name": "lakehouse",
                        "url": REPOSITORY,
                        "caFile": "/ca.pem",
                        **ACCOUNT,
                        "pass_credentials_all": False,
                    }
                ],
            },
        ),
        (
            REGISTRY,
            "--registry-config",
            {"auths": {"mirror.example:5000": {"auth": base64.b64encode(b"puller:word-7713").decode()}}},
        ),
        (
            "oci://registry-1.docker.io/charts",
            "--registry-config",
            {"auths": {"https://index.docker.io/v1/": {"auth": base64.b64encode(b"puller:word-7713").decode()}}},
        ),
    ],
)
def test_an_account_is_told_in_a_private_file_that_is_gone_afterwards(
    repository: str, option: str, expected: dict[str, Any], tmp_path: Path
) -> None:
    helm = Pulling()
    wanted = Wanted("stack", "1.2.3", repository, ca_bundle="/ca.pem", **ACCOUNT)
    pull(wanted, HELM, helm, tmp_path)
    assert helm.files[option] == (0o600, expected)
    assert not any("word" in word for command in helm.commands for word in command)
    assert "word" not in repr(wanted)
    assert [path.name for path in tmp_path.iterdir()] == ["package"]
    assert helm.commands[-1][-2:] == ["--ca-file", "/ca.pem"]


def test_logins_of_the_desk_are_used_where_no_account_is_given(tmp_path: Path) -> None:
    helm = Pulling()
    pull(Wanted("stack", "1.2.3", REGISTRY), HELM, helm, tmp_path)
    (command,) = helm.commands
    assert command[:3] == [HELM, "pull", f"{REGISTRY}/stack"]
    assert "--registry-config" not in command


def test_a_package_that_is_pinned_is_downloaded_once(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "kept")
    wanted = Wanted("stack", "1.2.3", REPOSITORY, checksum=CHECKSUM)
    folders = [tmp_path / name for name in ("one", "two", "three")]
    for folder in folders:
        folder.mkdir()
    helm = Pulling()
    charts.fetch(wanted, HELM, helm, folders[0], kept)
    asked = len(helm.commands)
    assert charts.fetch(wanted, HELM, helm, folders[1], kept).version == "1.2.3"
    assert len(helm.commands) == asked
    (path,) = kept.folder.iterdir()
    assert kept.folder.stat().st_mode & 0o777 == 0o700
    path.write_bytes(b"damaged")
    assert charts.fetch(wanted, HELM, helm, folders[2], kept).version == "1.2.3"
    assert len(helm.commands) == 2 * asked
    assert kept.find(wanted.checksum) == path


def test_a_package_that_nothing_pins_or_that_is_another_one_is_not_kept(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "kept")
    for name, given in (("one", ""), ("two", "0" * 64)):
        (tmp_path / name).mkdir()
        wanted = Wanted("stack", "1.2.3", REPOSITORY, checksum=given)
        if given:
            with pytest.raises(ChartError, match="the checksum of stack-1"):
                charts.fetch(wanted, HELM, Pulling(), tmp_path / name, kept)
        else:
            charts.fetch(wanted, HELM, Pulling(), tmp_path / name, kept)
    assert not kept.folder.exists()


def test_where_nothing_can_be_kept_charts_are_had_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", "utf-8")
    (tmp_path / "into").mkdir()
    wanted = Wanted("stack", "1.2.3", REPOSITORY, checksum=CHECKSUM)
    assert charts.fetch(wanted, HELM, Pulling(), tmp_path / "into", Kept(tmp_path / "file")).version == "1.2.3"


def test_what_is_kept_follows_the_users_own_folder_for_such() -> None:
    assert Kept.of({"XDG_CACHE_HOME": "/c"}).folder == Path("/c/crypto-lakehouse/charts")
    assert Kept.of({"XDG_CACHE_HOME": "relative"}).folder == Path("~/.cache/crypto-lakehouse/charts").expanduser()
