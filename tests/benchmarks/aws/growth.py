# SPDX-License-Identifier: GPL-3.0-or-later
"""Stacks of many unchanged resources, each planned in a cold process."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import botocore.session

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.task import StackTask
from tests.benchmarks.aws.account import parameters
from tests.benchmarks.aws.process import Runner
from tests.integration.aws.emulator import Server, shared_loader

SIZES = (250, 500, 1000)
_TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}


def many(count: int) -> list[dict[str, Any]]:
    """Return a VPC with subnets, security groups that refer to each other, roles and log groups."""
    return [
        {"kind": "vpc", "name": "main", "properties": {"cidr_block": "10.0.0.0/16"}},
        *(_resource(number) for number in range(1, count)),
    ]


def _resource(number: int) -> dict[str, Any]:
    name = f"n{number}"
    match number % 10:
        case 0 | 1 | 2 | 3:
            place = f"10.0.{number // 16}.{number % 16 * 16}/28"
            properties = {"vpc_id": "${vpc.main.id}", "cidr_block": place, "availability_zone": "eu-central-1a"}
            return {"kind": "subnet", "name": name, "properties": properties}
        case 4 | 5:
            return {"kind": "security_group", "name": name, "properties": _group(number)}
        case 6 | 7:
            return {"kind": "iam_role", "name": name, "properties": {"name": name, "assume_role_policy": _TRUST}}
    return {"kind": "log_group", "name": name, "properties": {"name": f"/{name}", "retention_in_days": 30}}


def _group(number: int) -> Mapping[str, Any]:
    # Both groups of a pair allow each other.
    other = number + 1 if number % 10 == 4 else number - 1
    rule = {
        "protocol": "tcp",
        "from_port": 443,
        "to_port": 443,
        "security_group_id": f"${{security_group.n{other}.id}}",
    }
    return {"name": f"n{number}", "description": "one of many", "vpc_id": "${vpc.main.id}", "ingress": [rule]}


def planning_s(server: Server, folder: Path, rounds: int) -> dict[int, float]:
    """Return the seconds that planning takes, the median of some rounds, by the number of resources."""
    given: dict[int, dict[str, Any]] = {}
    runners: dict[int, Runner] = {}
    with patch.object(botocore.session, "create_loader", shared_loader):
        for size in SIZES:
            account = server.account()
            given[size] = parameters(account, many(size))
            runners[size] = Runner(account, folder)
            StackTask(given[size], check_mode=False).run()
    took: dict[int, list[float]] = {size: [] for size in SIZES}
    for _round in range(rounds):
        for size in SIZES:
            took[size].append(runners[size].python("read", given[size]).took_s)
    return {size: median(times) for size, times in took.items()}
