# SPDX-License-Identifier: GPL-3.0-or-later
"""An account with all requirements of a lakehouse, and the repository's playbooks on it.

moto provides network, identities and data; `complement` provides cluster, backups and budget. No emulator supports all
of them.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.integration.aws import emulator
from tests.integration.aws.emulator import Emulator, Name, Server
from tests.integration.patience import HANG_S
from tests.integration.playbook import Run

ROOT = Path(__file__).resolve().parents[3]
# The account of a key that moto did not create, and ministack's account for the key of this name.
ACCOUNT_ID = "123456789012"
COMPLEMENTED = ("EKS", "BACKUP", "BUDGETS")


@dataclass
class Cloud:
    """An account, and the playbooks that run on it.

    given: further variables of every inventory, as YAML.
    """

    account: Emulator
    complement: Server
    folder: Path
    given: str = ""
    inventories: dict[str, Path] = field(default_factory=dict)

    @property
    def variables(self) -> dict[str, str]:
        return {
            **self.account.variables(self.folder),
            **{f"AWS_ENDPOINT_URL_{service}": self.complement.url for service in COMPLEMENTED},
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_HOME": str(self.folder / "ansible"),
        }

    def command(self, playbook: str, *arguments: str, environment: str = "development") -> list[str | Path]:
        """Return the command that runs a playbook, named by its path from the repository's root."""
        program = Path(sys.executable).with_name("ansible-playbook")
        return [program, "-i", self.inventory(environment), playbook, *arguments]

    def run(self, verb: str, *arguments: str, environment: str = "development", **given: Any) -> Run:
        """Run a playbook by its name or path; its inventory is a copy, so that no file is added to the repository's."""
        playbook = verb if verb.endswith(".yml") else f"playbooks/{verb}.yml"
        if verb in {"plan", "deploy", "drift"} and "-t" not in arguments:
            # Steps on the cluster are tested on an API server.
            arguments = (*arguments, "-t", "aws")
        # From a file, as AWX passes them: a plan exceeds the length limit of a program's argument.
        extra_vars = self.folder / "extra_vars.json"
        extra_vars.write_text(json.dumps(given), "utf-8")
        extra = ["-e", f"@{extra_vars}"] if given else []
        done = subprocess.run(
            self.command(playbook, *extra, *arguments, environment=environment),
            cwd=ROOT,
            env=self.variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=HANG_S,
            check=False,
        )
        return Run(done.returncode, done.stdout)

    def well(self, verb: str, *arguments: str, **given: Any) -> Run:
        run = self.run(verb, *arguments, **given)
        assert run.exit_code == 0, run.output
        return run

    def inventory(self, environment: str) -> Path:
        if environment not in self.inventories:
            folder = self.folder / "inventories" / environment
            for name in ("hosts.yml", "group_vars/all.yml"):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                text = (ROOT / "inventories" / environment / name).read_text("utf-8")
                (folder / name).write_text(text + (self.given if name.startswith("group_vars") else ""), "utf-8")
            self.inventories[environment] = folder
        return self.inventories[environment]

    def plan_file(self, environment: str = "development") -> Path:
        return self.inventory(environment) / ".cache" / environment / "plan.json"

    def contents(self) -> list[str]:
        """Return the objects of a lakehouse, as reported by the services themselves, without keys and secrets."""
        client = self.account.client
        ec2, iam, logs = client("ec2"), client("iam"), client("logs")
        vpcs = [vpc["VpcId"] for vpc in ec2.describe_vpcs()["Vpcs"] if not vpc["IsDefault"]]
        inside = [{"Name": "vpc-id", "Values": vpcs or ["none"]}]
        gateways = ec2.describe_nat_gateways()["NatGateways"]
        named = [
            *(bucket["Name"] for bucket in client("s3").list_buckets()["Buckets"]),
            *(role["RoleName"] for role in iam.list_roles()["Roles"]),
            *(policy["PolicyName"] for policy in iam.list_policies(Scope="Local")["Policies"]),
            *(group["logGroupName"] for group in logs.describe_log_groups()["logGroups"]),
            *(group["GroupName"] for group in ec2.describe_security_groups(Filters=inside)["SecurityGroups"]),
            *(item["LaunchTemplateName"] for item in ec2.describe_launch_templates()["LaunchTemplates"]),
            *(topic["TopicArn"] for topic in client("sns").list_topics()["Topics"]),
            *(system["Name"] for system in client("efs").describe_file_systems()["FileSystems"]),
            *(item["repositoryName"] for item in client("ecr").describe_repositories()["repositories"]),
            *(crawler["Name"] for crawler in client("glue").get_crawlers()["Crawlers"]),
            *(item["DashboardName"] for item in client("cloudwatch").list_dashboards()["DashboardEntries"]),
            *(item["Name"] for item in client("wafv2").list_web_acls(Scope="REGIONAL")["WebACLs"]),
            *Emulator(self.complement, ACCOUNT_ID).client("eks").list_clusters()["clusters"],
        ]
        return sorted(
            [
                *vpcs,
                *(address["AllocationId"] for address in ec2.describe_addresses()["Addresses"]),
                *(item["NatGatewayId"] for item in gateways if item["State"] != "deleted"),
                *(subnet["SubnetId"] for subnet in ec2.describe_subnets(Filters=inside)["Subnets"]),
                *(name for name in named if "crypto-lakehouse" in name),
            ]
        )


@contextlib.contextmanager
def open_cloud(folder: Path, program: Sequence[str] = (), variables: str = "") -> Iterator[Cloud]:
    """Start both emulators, and stop them.

    program: the program that replaces moto, with its arguments. variables: of every inventory, as YAML.
    """
    for name in ("moto", "complement", "cloud"):
        (folder / name).mkdir()
    moto = Server.start("moto", folder / "moto", program)
    try:
        account = Emulator(moto, ACCOUNT_ID)
        account.__dict__["key"] = (ACCOUNT_ID, "test")
        complement = _complement(account, folder / "complement")
        try:
            yield Cloud(account, complement, folder / "cloud", variables)
        finally:
            complement.stop()
    finally:
        moto.stop()


def _complement(account: Emulator, folder: Path) -> Server:
    """Start the services that moto lacks; EKS' security group of a cluster belongs to the account's network."""
    ec2 = account.client("ec2")
    vpc_id = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"][0]["VpcId"]
    group = ec2.create_security_group(GroupName="made-by-eks", Description="made by EKS", VpcId=vpc_id)["GroupId"]
    commands = emulator._commands

    def complete(name: Name, port: int, where: Path) -> tuple[list[str], dict[str, str]]:
        _command, variables = commands(name, port, where)
        program = [sys.executable, str(Path(__file__).with_name("complement.py"))]
        return program, {**variables, "CLUSTER_SECURITY_GROUP": group}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(emulator, "_commands", complete)
        return Server.start("ministack", folder)
