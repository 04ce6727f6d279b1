# SPDX-License-Identifier: GPL-3.0-or-later
"""Foundations of the other tests: separate accounts, and plans that provably change nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import urllib3
from botocore.exceptions import ClientError, ParamValidationError

from tests.integration.aws.emulator import Emulator
from tests.integration.aws.lab import Lab, ec2_tags
from tests.integration.aws.wire import Answer, Call, Scripted, Wire

VPC = {"vpc.main": {"cidr_block": "10.0.0.0/16"}}


def test_an_account_holds_nothing_of_another_test(emulator: Emulator) -> None:
    other = emulator.server.account()
    other.client("logs").create_log_group(logGroupName="of-another")

    assert emulator.client("sts").get_caller_identity()["Account"] == emulator.account_id != other.account_id
    assert emulator.client("logs").describe_log_groups()["logGroups"] == []


STARTED = """
import sys, time
from pathlib import Path
from tests.integration.aws.emulator import Server
print(Server.start("ministack", Path(sys.argv[1])).url, flush=True)
time.sleep(60)
"""


def test_an_emulator_does_not_outlive_tests_that_are_killed(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[3]
    paths = os.pathsep.join([str(root), str(root / ".venv" / "collections")])
    tests = subprocess.Popen(
        [sys.executable, "-c", STARTED, tmp_path],
        env={**os.environ, "PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        text=True,
    )
    with tests:
        assert tests.stdout is not None
        url = tests.stdout.readline().strip()
        assert url.startswith("http://127.0.0.1:")
        tests.kill()

    deadline_s = time.monotonic() + 30
    while answers(url):
        assert time.monotonic() < deadline_s, "it is still there"
        time.sleep(0.1)


def answers(url: str) -> bool:
    try:
        return urllib3.request("GET", f"{url}/_ministack/health", timeout=5, retries=False).status == 200
    except urllib3.exceptions.HTTPError:
        return False


def test_the_wire_sees_every_call_with_its_parameters(emulator: Emulator) -> None:
    wire = Wire()
    session = wire.attach(emulator.session())

    session.call("ec2", "describe_vpcs")
    session.call("ec2", "create_vpc", CidrBlock="10.0.0.0/16")

    assert [str(call) for call in wire.calls] == ["#1 ec2:DescribeVpcs", "#2 ec2:CreateVpc"]
    assert [call.parameters for call in wire.mutating] == [{"CidrBlock": "10.0.0.0/16"}]
    assert session.calls == wire.names()


@pytest.mark.emulators("moto")  # The tested code runs before a call reaches either.
def test_a_made_up_answer_that_the_service_could_not_give_fails_the_test(emulator: Emulator) -> None:
    session = Wire(Scripted({"eks:DescribeCluster": lambda name: {"cluster": {"nome": name}}})).attach(
        emulator.session()
    )

    with pytest.raises(ParamValidationError, match="nome"):
        session.client("eks").describe_cluster(name="x")
    with pytest.raises(AssertionError, match="eks:ListClusters is not in the script"):
        session.client("eks").list_clusters()


@pytest.mark.emulators("moto")  # The tested code runs before a call reaches either.
def test_a_made_up_error_arrives_as_the_services(emulator: Emulator) -> None:
    refused = Answer.error("ResourceInUseException", "busy", 409)
    session = Wire(Scripted({"eks:DeleteCluster": lambda **_given: refused})).attach(emulator.session())

    with pytest.raises(ClientError, match="ResourceInUseException") as caught:
        session.client("eks").delete_cluster(name="x")
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 409


def test_a_plan_that_changes_something_is_caught(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Call, "is_mutating", True)

    with pytest.raises(AssertionError, match="planning made mutating calls"):
        lab.plan(VPC)


def test_the_matrix_of_a_vpc(lab: Lab) -> None:
    lab.assert_matrix(
        "vpc.main",
        VPC["vpc.main"],
        changes={
            "enable_dns_hostnames": False,
            "without a resolver": {"enable_dns_support": False},
            "cidr_block": "10.1.0.0/16",
        },
        replaces=["cidr_block"],
        vanish=lambda lab, id_: lab.client("ec2").delete_vpc(VpcId=id_),
        edit_tags=ec2_tags,
    )
