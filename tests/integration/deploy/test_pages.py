# SPDX-License-Identifier: GPL-3.0-or-later
"""Pages of the platform ask for a password and call no other host, as a real browser sees it."""

from __future__ import annotations

import base64
import os
import re
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import pytest

from ansible_collections.crypto_lakehouse.platform.tests.integration.deploy.browser import Recording, visit
from ansible_collections.crypto_lakehouse.platform.tests.integration.deploy.lakehouse import REPOSITORY, Lakehouse
from tests.integration.patience import HANG_S

BROWSER = Path(os.environ.get("LAKEHOUSE_TEST_BROWSER") or REPOSITORY / ".cache/browser/chromium")
# Path of a page, and a text that it shows once it works.
PAGES = {"v1": ("/dashboard", "Prefect"), "v2": ("/v2/dashboard", "Dashboard")}


@pytest.fixture
def account(lakehouse: Lakehouse) -> str:
    text = f"lakehouse:{lakehouse.secrets['orchestrator_password']}"
    return f"Basic {base64.b64encode(text.encode()).decode()}"


@pytest.fixture
def own_calls(tmp_path: Path) -> set[str]:
    """Return the hosts that the browser itself requests on any page."""
    if not BROWSER.exists():
        pytest.fail("there is no browser: run `make browser`")
    recording = Recording("")
    visit(BROWSER, "about:blank", recording, tmp_path / "blank")
    return recording.foreign


@pytest.mark.parametrize("page", sorted(PAGES))
def test_a_page_works_and_calls_no_other_host(
    lakehouse: Lakehouse, account: str, own_calls: set[str], tmp_path: Path, page: str
) -> None:
    path, shown = PAGES[page]
    recording = Recording(account)
    content = visit(BROWSER, lakehouse.url(4200, path), recording, tmp_path / "profile")
    assert shown in content
    assert recording.answered("/api/admin/settings"), "the page has not asked the API"
    assert {status for host, found, status in recording.asked if found.startswith("/api/")} <= {200, 201}
    assert _of_pages(recording, own_calls) == set()


def test_the_recording_sees_what_a_page_would_call(
    lakehouse: Lakehouse, account: str, own_calls: set[str], tmp_path: Path
) -> None:
    recording = Recording(account, strip_policy=True)
    visit(BROWSER, lakehouse.url(4200, PAGES["v2"][0]), recording, tmp_path / "profile")
    assert any("amplitude" in host for host in _of_pages(recording, own_calls))


def test_the_pages_of_prometheus_that_the_readme_lists_are_there(lakehouse: Lakehouse) -> None:
    (row,) = re.findall(r"^\| Prometheus \|.*$", (REPOSITORY / "README.md").read_text("utf-8"), re.MULTILINE)
    names = re.findall(r"`([a-z-]+)`", row.partition("also")[2].partition("|")[0])
    assert {"alerts", "targets"} <= set(names)
    account = base64.b64encode(f"lakehouse:{lakehouse.secrets['prometheus_password']}".encode()).decode()
    server = HTTPConnection("127.0.0.1", 9090 + lakehouse.port_offset, timeout=HANG_S)
    with closing(server):
        for name in ["graph", *names]:
            server.request("GET", f"/classic/{name}", headers={"Authorization": f"Basic {account}"})
            answer = server.getresponse()
            assert (answer.status, answer.headers.get_content_type()) == (200, "text/html"), name
            assert "<title>Prometheus" in answer.read().decode(), name


def _of_pages(recording: Recording, own_calls: set[str]) -> set[str]:
    """Return the hosts that a page requested; requests to the browser's vendor arrive at random times."""
    return {host for host in recording.foreign - own_calls if not host.endswith((".google.com", ".googleapis.com"))}


def test_a_browser_without_the_password_sees_nothing(lakehouse: Lakehouse, tmp_path: Path) -> None:
    if not BROWSER.exists():
        pytest.fail("there is no browser: run `make browser`")
    recording = Recording("Basic bm9ib2R5Om5vdGhpbmc=")
    content = visit(BROWSER, lakehouse.url(4200, PAGES["v2"][0]), recording, tmp_path / "profile")
    assert {status for host, _path, status in recording.asked if host == "127.0.0.1"} == {401}
    assert "Prefect" not in content
