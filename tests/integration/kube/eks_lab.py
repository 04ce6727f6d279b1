# SPDX-License-Identifier: GPL-3.0-or-later
"""An AWS account with an EKS cluster that is a real API server, and a lakehouse on both.

moto provides network, identities and data, ministack STS, backups and budgets. EKS is the service of the tests, whose
clusters are one API server that admits the users of `authenticator`.
"""

from __future__ import annotations

import base64
import contextlib
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import botocore.session
import pytest

from tests.integration.aws.emulator import REGION, Server, environment
from tests.integration.kube.authenticator import Authenticator
from tests.integration.kube.charts import ROOT
from tests.integration.kube.cluster import ADMINISTRATORS, Cluster, ControlPlane
from tests.integration.kube.eks_service import LiveEks, offered
from tests.integration.kube.lakehouse import Lakehouse
from tests.unit.aws import eks_service

# The account of this key's name in ministack, and the account of a key that moto did not create.
ACCOUNT = "123456789012"
SECRET_KEY = "hunter2hunter2hunter2"
ROOT_ARN = f"arn:aws:iam::{ACCOUNT}:root"
OF_MINISTACK = ("STS", "BACKUP", "BUDGETS")


@dataclass(frozen=True)
class Cloud:
    """An account, and the cluster that represents all clusters of its EKS."""

    cluster: Cluster
    eks: LiveEks
    authenticator: Authenticator
    moto: Server
    ministack: Server
    eks_url: str
    folder: Path
    clients: dict[str, Any] = field(default_factory=dict)

    def client(self, service: str) -> Any:
        """Return a client of the test itself."""
        if service not in self.clients:
            server = self.ministack if service.upper() in OF_MINISTACK else self.moto
            session = botocore.session.Session()
            session.set_credentials(ACCOUNT, SECRET_KEY)
            url = self.eks_url if service == "eks" else server.url
            self.clients[service] = session.create_client(service, region_name=REGION, endpoint_url=url)
        return self.clients[service]

    @property
    def variables(self) -> dict[str, str]:
        """Return the environment variables with which a program uses the account."""
        given = {
            "AWS_ENDPOINT_URL": self.moto.url,
            "AWS_ENDPOINT_URL_EKS": self.eks_url,
            **{f"AWS_ENDPOINT_URL_{service}": self.ministack.url for service in OF_MINISTACK},
            "AWS_REGION": REGION,
            "AWS_ACCESS_KEY_ID": ACCOUNT,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        }
        return environment(self.folder, given)


@contextlib.contextmanager
def cloud(plane: ControlPlane, folder: Path, name: str) -> Iterator[Cloud]:
    """Start an account whose cluster `name` is the control plane, which is started with it."""
    folder.mkdir(exist_ok=True)
    keys = {ACCOUNT: SECRET_KEY}
    authenticator = Authenticator(name, folder, keys, {ROOT_ARN: ("creator", (ADMINISTRATORS,))})
    with contextlib.ExitStack() as stack:
        webhook = stack.enter_context(authenticator.serving(plane.authority))
        plane.options |= {
            "authentication-token-webhook-config-file": webhook,
            "authentication-token-webhook-version": "v1",
            "authentication-token-webhook-cache-ttl": "1s",
        }
        cluster = plane.start()
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(eks_service, "ACCOUNT", ACCOUNT)
        eks = LiveEks(
            slowness=0,
            offered=offered(),
            endpoint=f"https://127.0.0.1:{plane.port}",
            authority=base64.b64encode(plane.authority.pem).decode(),
            keys=keys,
        )
        url = stack.enter_context(eks.serving())
        moto, ministack = (_started(stack, server, folder) for server in ("moto", "ministack"))
        authenticator.sts = ministack.url
        found = Cloud(cluster, eks, authenticator, moto, ministack, url, folder)
        eks.group = _group_of_eks(found)
        yield found


def _started(stack: contextlib.ExitStack, name: Any, folder: Path) -> Server:
    place = folder / name
    place.mkdir()
    # Its RDS loses a requested field.
    program = [sys.executable, str(ROOT / "tests/integration/aws/moto_complement.py")] if name == "moto" else []
    server = Server.start(name, place, program)
    stack.callback(server.stop)
    return server


def _group_of_eks(found: Cloud) -> str:
    """Create the security group that EKS gives a cluster, in the account's network."""
    ec2 = found.client("ec2")
    vpc = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"][0]["VpcId"]
    made = ec2.create_security_group(GroupName="made-by-eks", Description="made by EKS", VpcId=vpc)
    return str(made["GroupId"])


@dataclass
class EksLakehouse(Lakehouse):
    """The playbooks, run against an account; AWS alone provides the cluster's address."""

    cloud: Cloud | None = None
    _copies: dict[str, Path] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """A copy of the inventory, so that no file is added to the repository's."""
        if self.inventory not in self._copies:
            copy = self.folder / "inventories" / self.inventory
            shutil.copytree(ROOT / "inventories" / self.inventory, copy, ignore=shutil.ignore_patterns(".cache"))
            self._copies[self.inventory] = copy
        return str(self._copies[self.inventory])

    @property
    def environment(self) -> dict[str, str]:
        assert self.cloud is not None
        outer = {name: value for name, value in super().environment.items() if name.startswith("ANSIBLE_")}
        inherited = {name: value for name, value in self.cloud.variables.items() if name != "KUBECONFIG"}
        return {**inherited, **outer}

    def note(self, output: str) -> None:
        super().note(output)
        # Of a token, and of the key that signs it.
        assert "k8s-aws-v1" not in output
        assert SECRET_KEY not in output
        assert "X-Amz-Signature" not in output
