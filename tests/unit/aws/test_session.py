# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import functools
import hashlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.errors import CallError
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.session import Connection, Identity, Session
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.resource import Activity, acting
from tests.integration.aws.clock import Clock
from tests.unit.aws.conftest import SECRET_KEY
from tests.unit.aws.service import (
    HANG,
    IDENTITY,
    RESET,
    Reply,
    Service,
    answer,
    error,
    query_error,
    xml,
)

Connect = Callable[..., Session]
THROTTLED = error("ThrottlingException", "Rate exceeded")
BROKEN = error("InternalFailure", status=500)
GROUPS = answer(logGroups=[{"logGroupName": "one"}])
REPOSITORY = Path(__file__).parents[3]


def read(session: Session) -> object:
    return session.call("logs", "describe_log_groups")


def create(session: Session, find: Callable[[], Any]) -> object:
    return session.call_once("logs", "create_log_group", find, logGroupName="one")


def nothing() -> None:
    return None


def test_what_was_denied_is_not_asked_again(service: Service, connect: Connect) -> None:
    service.replies = [error("AccessDeniedException", "no")]

    with pytest.raises(CallError, match="allow logs:DescribeLogGroups to the identity that runs this"):
        read(connect())
    assert len(service.asked) == 1


def test_a_parameter_that_the_service_does_not_know_is_never_sent(service: Service, connect: Connect) -> None:
    with pytest.raises(CallError, match=r"logs:DescribeLogGroups: ParamValidationError: [^;]*\"nonsense\""):
        connect().call("logs", "describe_log_groups", nonsense=1)
    assert service.asked == []


def test_throttling_ends_in_an_error_after_nine_attempts(service: Service, connect: Connect, clock: Clock) -> None:
    service.replies = [THROTTLED]
    session = connect()

    with pytest.raises(CallError, match="Rate exceeded") as caught:
        read(session)
    assert caught.value.is_throttled
    assert len(service.asked) == len(session.calls) == 9
    assert len(clock.pauses) == 8
    assert max(clock.pauses) <= 20.0


@pytest.mark.parametrize(
    "reply",
    [
        THROTTLED,
        error("TooManyRequestsException", status=429),
        error("SomethingNew", status=429),
        BROKEN,
        Reply(503, "not JSON at all", "text/html"),
        RESET,
    ],
    ids=["400", "429", "429 of another name", "500", "a proxy's 503", "reset"],
)
def test_a_call_that_can_be_repeated_survives_a_bad_moment(service: Service, connect: Connect, reply: Reply) -> None:
    service.replies = [reply, reply, GROUPS]

    assert read(connect()) == {"logGroups": [{"logGroupName": "one"}]}
    assert len(service.asked) == 3


def test_an_answer_that_never_comes_is_given_up_and_asked_again(service: Service, connect: Connect) -> None:
    service.replies = [HANG, GROUPS]

    assert read(connect(timeout_s=0.3)) == {"logGroups": [{"logGroupName": "one"}]}


def test_a_host_where_nobody_listens_is_found_out_soon(service: Service, connect: Connect) -> None:
    session = connect(endpoint_url="http://127.0.0.1:9")

    with pytest.raises(CallError, match="check the region, endpoint_url, the network and the proxy"):
        read(session)
    assert len(session.calls) == 3


@pytest.mark.parametrize("lost", [BROKEN, RESET, HANG], ids=["500", "reset", "silence"])
def test_a_create_whose_answer_was_lost_is_looked_for_and_not_repeated(
    service: Service, connect: Connect, lost: Reply
) -> None:
    service.replies = [lost, GROUPS]
    session = connect(timeout_s=0.3)

    assert create(session, lambda: session.call("logs", "describe_log_groups")) == {
        "logGroups": [{"logGroupName": "one"}]
    }
    assert [asked.target for asked in service.asked] == ["CreateLogGroup", "DescribeLogGroups"]


def test_what_a_lost_create_made_may_take_a_while_to_show(service: Service, connect: Connect) -> None:
    service.replies = [BROKEN]
    looks = iter([None, None, None, {"made": "late"}])

    assert create(connect(), lambda: next(looks)) == {"made": "late"}
    assert len(service.asked) == 1


def test_a_create_that_really_was_lost_is_made_again(service: Service, connect: Connect) -> None:
    service.replies = [BROKEN, answer()]

    assert create(connect(), nothing) == {}
    assert len(service.asked) == 2


def test_a_create_that_only_now_shows_is_not_mistaken_for_somebody_elses(service: Service, connect: Connect) -> None:
    """The first attempt created it, no read showed it, and the second attempt gets a name conflict."""
    service.replies = [BROKEN, error("ResourceAlreadyExistsException")]

    def find() -> dict[str, str] | None:
        return {"made": "by the first"} if len(service.asked) == 2 else None

    assert create(connect(), find) == {"made": "by the first"}


def test_a_create_that_is_refused_at_once_does_not_look(service: Service, connect: Connect) -> None:
    service.replies = [error("ResourceAlreadyExistsException")]

    with pytest.raises(CallError, match="ResourceAlreadyExistsException"):
        create(connect(), lambda: pytest.fail("looked for what cannot be there"))


def test_a_throttled_create_is_repeated_without_looking(service: Service, connect: Connect) -> None:
    service.replies = [THROTTLED, THROTTLED, answer()]

    assert create(connect(), lambda: pytest.fail("looked for what cannot be there")) == {}


def test_a_create_is_given_up_when_every_answer_is_lost(service: Service, connect: Connect) -> None:
    service.replies = [BROKEN]

    with pytest.raises(CallError, match="InternalFailure"):
        create(connect(), nothing)
    assert len(service.asked) == 9


def test_a_failure_that_passes_by_itself_is_outwaited(service: Service, connect: Connect) -> None:
    service.replies = [error("InvalidParameterException", "role cannot be assumed yet")] * 15 + [GROUPS]

    answered = connect().call("logs", "describe_log_groups", retry_on=("InvalidParameterException:cannot be assumed",))
    assert answered == {"logGroups": [{"logGroupName": "one"}]}


@pytest.mark.parametrize("retry_on", ["InvalidParameterException:other words", "Another:cannot be assumed"])
def test_a_failure_of_other_words_or_another_code_is_not_outwaited(
    service: Service, connect: Connect, retry_on: str
) -> None:
    service.replies = [error("InvalidParameterException", "role cannot be assumed yet")]

    with pytest.raises(CallError):
        connect().call("logs", "describe_log_groups", retry_on=(retry_on,))
    assert len(service.asked) == 1


@pytest.mark.parametrize("once", [False, True])
def test_patience_with_a_failure_that_should_pass_ends(
    service: Service, connect: Connect, clock: Clock, *, once: bool
) -> None:
    service.replies = [error("InvalidParameterException", "role cannot be assumed yet")]
    session = connect()
    call = functools.partial(session.call_once, find=nothing) if once else session.call

    with pytest.raises(CallError, match="cannot be assumed"):
        call("logs", "create_log_group", retry_on=("InvalidParameterException",), logGroupName="one")
    assert 85 < sum(clock.pauses) < 110


def test_a_run_that_was_stopped_waits_for_no_other_attempt(service: Service, connect: Connect) -> None:
    service.replies = [THROTTLED]
    stopped = threading.Event()
    stopped.set()

    with acting(Activity(stopped)), pytest.raises(CallError, match="the run was stopped"):
        read(connect())
    assert len(service.asked) == 1


def test_only_the_codes_of_absence_read_as_nothing(service: Service, connect: Connect) -> None:
    service.replies = [error("ResourceNotFoundException"), error("OperationAbortedException")]
    session = connect()

    assert session.look("logs", "describe_log_groups", ("ResourceNotFoundException",)) is None
    with pytest.raises(CallError, match="OperationAborted"):
        session.look("logs", "describe_log_groups", ("ResourceNotFoundException",))


def test_every_attempt_counts_for_the_step_that_makes_it(service: Service, connect: Connect) -> None:
    service.replies = [THROTTLED, BROKEN, GROUPS]
    session = connect()

    with acting(Activity()) as doing:
        session.each(lambda _item: read(session), range(3))
    assert doing.api_calls == len(session.calls) == len(service.asked) == 5
    assert set(session.calls) == {"logs:DescribeLogGroups"}


def test_all_pages_are_read(service: Service, connect: Connect) -> None:
    service.replies = [
        answer(logGroups=[{"logGroupName": "one"}], nextToken="more"),
        THROTTLED,
        answer(logGroups=[], nextToken="still more"),
        answer(logGroups=[{"logGroupName": "two"}]),
    ]

    found = connect().pages("logs", "describe_log_groups", "logGroups")
    assert found == [{"logGroupName": "one"}, {"logGroupName": "two"}]
    assert ["more" in asked.body for asked in service.asked] == [False, True, True, True]


def test_an_operation_without_pages_is_one_page(service: Service, connect: Connect) -> None:
    service.replies = [answer(tags={"a": "b"})]

    assert connect().pages("logs", "list_tags_for_resource", "tags", resourceArn="arn:x") == ["a"]


def test_items_are_asked_at_once_and_answered_in_their_order(connect: Connect) -> None:
    barrier = threading.Barrier(4, timeout=5)

    def doubled(number: int) -> int:
        barrier.wait()
        return number * 2

    assert connect().each(doubled, range(4)) == [0, 2, 4, 6]


def test_an_error_of_one_item_reaches_the_caller(connect: Connect) -> None:
    def divided(number: int) -> float:
        return 1 / number

    with pytest.raises(ZeroDivisionError):
        connect().each(divided, [1, 0, 2])


def test_no_more_calls_are_under_way_than_the_connection_allows(service: Service, connect: Connect) -> None:
    session = connect(parallelism=2)
    session.client("logs")
    threads = [threading.Thread(target=session.each, args=(lambda _item: read(session), range(6))) for _n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(service.asked) == 24
    assert service.most_at_once <= 2


def test_a_question_is_asked_once_by_many_threads(connect: Connect) -> None:
    asked: list[int] = []

    def slow() -> str:
        time.sleep(0.02)
        asked.append(1)
        return "answer"

    session = connect()
    assert set(session.each(lambda _item: session.once("key", slow), range(8))) == {"answer"}
    assert len(asked) == 1


def test_a_question_that_failed_is_asked_anew(connect: Connect) -> None:
    session, failing = connect(), [True]

    def sometimes() -> str:
        if failing.pop():
            raise ValueError
        return "answer"

    with pytest.raises(ValueError):  # noqa: PT011 - it has no words
        session.once("key", sometimes)
    failing.append(False)
    assert session.once("key", sometimes) == "answer"


def test_who_calls_is_asked_once_and_says_the_partition(service: Service, connect: Connect) -> None:
    service.replies = [IDENTITY]
    session = connect()

    assert session.identity() == session.identity()
    assert (session.identity().account_id, session.identity().partition) == ("111122223333", "aws")
    assert len(service.asked) == 1


def test_only_zones_that_take_subnets_are_zones(service: Service, connect: Connect) -> None:
    def zone(name: str, state: str, kind: str) -> str:
        tags = {"zoneName": name, "zoneId": f"id-of-{name[-1]}", "zoneState": state, "zoneType": kind}
        return f"<item>{''.join(f'<{tag}>{text}</{tag}>' for tag, text in tags.items())}</item>"

    zones = [
        zone("eu-central-1b", "available", "availability-zone"),
        zone("eu-central-1a", "available", "availability-zone"),
        zone("eu-central-1c", "unavailable", "availability-zone"),
        zone("eu-central-1-ham-1a", "available", "local-zone"),
    ]
    service.replies = [
        xml(
            "<DescribeAvailabilityZonesResponse><availabilityZoneInfo>"
            f"{''.join(zones)}</availabilityZoneInfo></DescribeAvailabilityZonesResponse>"
        )
    ]

    assert list(connect().zones().items()) == [("eu-central-1a", "id-of-a"), ("eu-central-1b", "id-of-b")]


def test_a_secret_is_in_no_message(service: Service, connect: Connect) -> None:
    service.replies = [error("InvalidParameterException", f"bad: hunter22, {SECRET_KEY} and {SECRET_KEY}")]
    session = connect()
    session.hide("hunter22", "hunter22-and-more", "abc")

    with pytest.raises(CallError) as caught:
        read(session)
    for text in (str(caught.value), caught.value.message, repr(caught.value)):
        assert "hunter" not in text
        assert SECRET_KEY not in text
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_a_short_word_is_not_hidden_everywhere(connect: Connect) -> None:
    session = connect()
    session.hide("", "no")

    assert session.redacted("nothing is not known") == "nothing is not known"


def test_a_connection_shows_no_secret() -> None:
    shown = repr(Connection(access_key="AKIA", secret_key="hunter22", session_token="token-of-mine"))

    assert "AKIA" in shown
    assert "hunter22" not in shown
    assert "token-of-mine" not in shown


def test_no_credentials_are_an_error_that_says_where_they_come_from(connect: Connect) -> None:
    with pytest.raises(CallError, match=r"NoCredentialsError.*check the credentials: profile, access_key"):
        read(connect(access_key="", secret_key=""))


def test_a_profile_that_is_not_there_is_named(connect: Connect) -> None:
    with pytest.raises(CallError, match=r"ProfileNotFound.*nowhere.*name a profile of the AWS configuration files"):
        read(connect(profile="nowhere"))


def test_a_missing_region_is_an_error_that_says_so(connect: Connect) -> None:
    with pytest.raises(CallError, match=r"NoRegionError.*[Rr]egion"):
        read(connect(region=""))


def test_a_region_of_no_possible_name_is_an_error(connect: Connect) -> None:
    with pytest.raises(CallError, match="eu central 1"):
        read(connect(region="eu central 1", endpoint_url=""))


ROLE = xml(
    "<AssumeRoleResponse><AssumeRoleResult>"
    "<AssumedRoleUser><Arn>arn:aws:sts::1:assumed-role/deployer/x</Arn><AssumedRoleId>A:x</AssumedRoleId>"
    "</AssumedRoleUser><Credentials><AccessKeyId>ASIATEMPORARY</AccessKeyId>"
    "<SecretAccessKey>temporary</SecretAccessKey><SessionToken>the-token</SessionToken>"
    "<Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>"
)


def test_calls_are_made_in_the_role_that_is_to_be_assumed(service: Service, connect: Connect) -> None:
    service.replies = [ROLE, GROUPS, GROUPS]
    session = connect(assume_role_arn="arn:aws:iam::111122223333:role/deployer", external_id="ours")

    read(session)
    read(session)

    assume, first, second = service.asked
    assert "ExternalId=ours" in assume.body
    assert "AKIATESTTESTTEST" in assume.headers["Authorization"]
    for asked in (first, second):
        assert "ASIATEMPORARY" in asked.headers["Authorization"]
        assert asked.headers["X-Amz-Security-Token"] == "the-token"


@pytest.mark.parametrize(("given", "name"), [("", "crypto-lakehouse"), ("release-4711", "release-4711")])
def test_the_session_in_a_role_has_the_given_name(service: Service, connect: Connect, given: str, name: str) -> None:
    service.replies = [ROLE, GROUPS]
    read(connect(assume_role_arn="arn:aws:iam::111122223333:role/deployer", role_session_name=given))
    assert f"RoleSessionName={name}&" in f"{service.asked[0].body}&"


SSO_CONFIG = """\
[profile work]
sso_session = company
sso_account_id = 111122223333
sso_role_name = Deployer
region = eu-central-1
[sso-session company]
sso_region = eu-central-1
sso_start_url = https://company.awsapps.example/start
"""


@pytest.fixture
def single_sign_on(tmp_path: Path, service: Service, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Create a home with an SSO profile; return the file in which a login stores its token."""
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "config").write_text(SSO_CONFIG, "utf-8")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / ".aws" / "config"))
    monkeypatch.setenv("AWS_ENDPOINT_URL_SSO", service.url)
    cache = tmp_path / ".aws" / "sso" / "cache"
    cache.mkdir(parents=True)
    return cache / f"{hashlib.sha1(b'company', usedforsecurity=False).hexdigest()}.json"


def test_a_profile_of_sso_lends_its_credentials_once_somebody_is_logged_in(
    service: Service, connect: Connect, single_sign_on: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # botocore reads the folder of tokens from HOME when it is imported.
    for owner in ("tokens.SSOTokenProvider", "credentials.SSOProvider"):
        monkeypatch.setattr(f"botocore.{owner}._SSO_TOKEN_CACHE_DIR", str(single_sign_on.parent))
    given = {"access_key": "", "secret_key": "", "profile": "work"}
    with pytest.raises(CallError, match="log in: aws sso login --profile PROFILE"):
        read(connect(**given))
    assert service.asked == []

    token = {"startUrl": "https://company.awsapps.example/start", "region": "eu-central-1"}
    token |= {"accessToken": "the-login", "expiresAt": "2099-01-01T00:00:00Z"}
    single_sign_on.write_text(json.dumps(token), "utf-8")
    lent = {"accessKeyId": "ASIAOFSSO", "secretAccessKey": "lent", "sessionToken": "t", "expiration": 4_070_908_800_000}
    service.replies = [answer(roleCredentials=lent), GROUPS]
    read(connect(**given))
    asked, listed = service.asked
    assert "role_name=Deployer" in asked.target
    assert asked.headers["x-amz-sso_bearer_token"] == "the-login"
    assert "ASIAOFSSO" in listed.headers["Authorization"]


def test_a_role_that_may_not_be_assumed_is_an_error_about_the_role(service: Service, connect: Connect) -> None:
    service.replies = [query_error("AccessDenied", "User tester is not authorized")]

    with pytest.raises(CallError, match="allow sts:AssumeRole to the identity that runs this"):
        read(connect(assume_role_arn="arn:aws:iam::111122223333:role/deployer"))
    assert len(service.asked) == 1


def test_a_role_without_credentials_to_assume_it_is_an_error(connect: Connect) -> None:
    with pytest.raises(CallError, match=r"sts:AssumeRole: NoCredentialsError"):
        read(connect(access_key="", secret_key="", assume_role_arn="arn:aws:iam::111122223333:role/deployer"))


def test_a_client_is_made_once(connect: Connect) -> None:
    session = connect()

    assert len(set(map(id, session.each(session.client, ["logs"] * 8)))) == 1


def test_buckets_are_addressed_by_path_at_an_endpoint_of_ones_own(service: Service, connect: Connect) -> None:
    service.replies = [Reply(body="", content_type="application/xml")]
    connect().call("s3", "put_bucket_versioning", Bucket="b", VersioningConfiguration={"Status": "Enabled"})

    assert service.asked[0].target == "/b?versioning"


def test_the_service_can_tell_whose_calls_these_are(service: Service, connect: Connect) -> None:
    read(connect())

    assert "crypto-lakehouse/" in service.asked[0].headers["User-Agent"]


def test_importing_costs_no_model_and_no_library() -> None:
    program = (
        "import sys, ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.stack;"
        "print([name for name in ('boto3', 'botocore') if name in sys.modules])"
    )
    path = {"PYTHONPATH": str(REPOSITORY / ".venv" / "collections")}
    done = subprocess.run([sys.executable, "-c", program], env=path, capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("partition", "region", "service", "lacks"),
    [
        ("aws", "eu-central-1", "glue", False),
        ("aws", "eu-central-1", "iam", False),
        ("aws", "eu-central-1", "budgets", False),
        ("aws-us-gov", "us-gov-west-1", "iam", False),
        ("aws-iso", "us-iso-west-1", "wafv2", True),
        ("aws-iso", "us-iso-west-1", "ec2", False),
    ],
)
def test_what_a_region_does_not_have_is_known_without_a_call(
    monkeypatch: pytest.MonkeyPatch, partition: str, region: str, service: str, *, lacks: bool
) -> None:
    monkeypatch.setattr(Session, "identity", lambda _session: Identity("111122223333", partition, ""))
    assert Session(Connection(region=region)).lacks(service) is lacks
    # A custom endpoint may have any service.
    assert Session(Connection(region=region, endpoint_url="http://127.0.0.1:9")).lacks(service) is False
