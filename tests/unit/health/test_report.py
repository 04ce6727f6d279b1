# SPDX-License-Identifier: GPL-3.0-or-later
"""The report: order, table, message, and no secrets in any of them."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.health.report import (
    LAYERS,
    MASK,
    STATUSES,
    Check,
    Report,
)

SECRET = "correct horse"
FAILED = Check("services", "api", "unhealthy", "connection refused", "tail -n 50 log/api.log", 3.2)
SLOW = Check("data", "market_api", "degraded", "no answer within 3 s")
FINE = Check("machine", "disk", "healthy", "50 % free", response_time_ms=0.4)

checks = st.builds(
    Check,
    layer=st.sampled_from((*LAYERS, "another")),
    subject=st.text("abc-", min_size=1, max_size=8),
    status=st.sampled_from(STATUSES),
    detail=st.text(max_size=200),
    remedy=st.text(max_size=20),
    response_time_ms=st.none() | st.floats(0, 1e5),
)


def test_the_message_names_what_is_unhealthy_and_the_next_command() -> None:
    message = Report.of([FINE, SLOW, FAILED]).message()
    assert message == (
        "1 of 3 checks are unhealthy:\n  - services/api: connection refused. Next: tail -n 50 log/api.log"
    )


def test_the_message_of_a_healthy_report_is_its_summary() -> None:
    assert Report.of([FINE, SLOW]).message() == "2 checks: 1 degraded, 1 healthy"
    assert Report.of([FINE]).message() == "1 check: 1 healthy"
    assert Report.of([]).message() == "0 checks: none was made"


def test_degraded_is_not_unhealthy() -> None:
    report = Report.of([FINE, SLOW])
    assert report.healthy
    assert (report.unhealthy, report.degraded) == ([], ["data/market_api"])


def test_the_table_has_the_worst_first_and_fits_its_columns() -> None:
    assert Report.of([FINE, SLOW, FAILED]).table().splitlines() == [
        "STATUS     CHECK            TIME  DETAIL",
        "unhealthy  services/api     3 ms  connection refused",
        "degraded   data/market_api        no answer within 3 s",
        "healthy    machine/disk     0 ms  50 % free",
        "",
        "3 checks: 1 unhealthy, 1 degraded, 1 healthy",
    ]


def test_a_detail_that_is_too_long_is_cut_in_the_table_alone() -> None:
    report = Report.of([Check("machine", "disk", "healthy", "x" * 500)])
    assert max(map(len, report.table(width=80).splitlines())) == 80
    assert report.as_result()["checks"][0]["detail"] == "x" * 500


def test_a_secret_is_nowhere_in_the_result() -> None:
    leaking = Check("services", "api", "unhealthy", f"refused {SECRET}", f"curl -u lakehouse:{SECRET}")
    result = json.dumps(Report.of([leaking], secrets=[SECRET, ""]).as_result())
    assert SECRET not in result
    assert result.count(MASK) >= 4


def test_the_longer_of_two_secrets_is_masked_whole() -> None:
    report = Report.of([Check("a", "b", "healthy", "abcdef")], secrets=["abc", "abcdef"])
    assert report.checks[0].detail == MASK


@given(st.lists(checks, max_size=12))
def test_no_check_is_lost_and_every_line_of_the_table_is_one_check(found: list[Check]) -> None:
    report = Report.of(found)
    assert sorted(check.name for check in report.checks) == sorted(check.name for check in found)
    assert len(report.table().splitlines()) == len(found) + 3
    ranks = [STATUSES.index(check.status) for check in report.checks]
    assert ranks == sorted(ranks)
    assert report.healthy == all(check.status != "unhealthy" for check in found)


@given(st.lists(checks, max_size=12))
def test_the_result_is_json(found: list[Check]) -> None:
    result = Report.of(found).as_result()
    assert json.loads(json.dumps(result)) == result
