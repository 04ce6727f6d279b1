# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Production holds data: it is deployed, rejects its destruction, and is destroyed where that is allowed."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.aws.cloud import ACCOUNT_ID, Cloud, open_cloud
from tests.integration.aws.emulator import Emulator

NAME = "crypto-lakehouse-production"
UNPROTECTED: dict[str, Any] = {"lakehouse_aws_deletion_protection": False}
CONFIRMED: dict[str, Any] = {**UNPROTECTED, "lakehouse_destroy_confirm": "production"}
MANIFEST = {
    "schemaVersion": 2,
    "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
    "config": {"mediaType": "application/json", "size": 1, "digest": f"sha256:{'1' * 64}"},
    "layers": [],
}


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """Return an account with a deployed production environment that holds data.

    Buckets stay empty: moto rejects objects in buckets that require TLS.
    """
    program = [sys.executable, str(Path(__file__).with_name("moto_complement.py"))]
    with open_cloud(tmp_path_factory.mktemp("production"), program) as opened:
        run = opened.well("deploy", environment="production")
        assert "is as described in account" in run.words
        fill(opened)
        yield opened


def fill(cloud: Cloud) -> None:
    client, backup = cloud.account.client, Emulator(cloud.complement, ACCOUNT_ID).client("backup")
    client("ecr").put_image(repositoryName=NAME, imageManifest=json.dumps(MANIFEST), imageTag="1")
    client("athena").create_named_query(Name="q", Database="d", QueryString="SELECT 1", WorkGroup=NAME)
    system = client("efs").describe_file_systems()["FileSystems"][0]["FileSystemId"]
    client("efs").create_access_point(FileSystemId=system)
    for volume in "ab":
        backup.start_backup_job(
            BackupVaultName=NAME,
            ResourceArn=f"arn:aws:ec2:eu-central-1:{ACCOUNT_ID}:volume/{volume}",
            IamRoleArn=f"arn:aws:iam::{ACCOUNT_ID}:role/backup",
        )


def destroy(cloud: Cloud, **given: Any) -> Any:
    return cloud.run("destroy", environment="production", **given)


def test_what_it_holds_is_no_drift(cloud: Cloud) -> None:
    assert cloud.well("drift", environment="production").changed == 0


def test_each_refusal_names_its_variable_and_the_remedies_destroy_it(cloud: Cloud) -> None:
    protected = destroy(cloud, lakehouse_destroy_confirm="production", lakehouse_destroy_data=True)
    assert "playbooks/deploy.yml -t aws with -e lakehouse_aws_deletion_protection=false" in protected.words
    cloud.well("deploy", environment="production", **UNPROTECTED)

    refused = destroy(cloud, **CONFIRMED)
    assert refused.exit_code != 0
    for content in (
        f"athena_workgroup.main: the workgroup {NAME} is not empty, it holds saved queries",
        f"backup_vault.main: the vault {NAME} holds 2 recovery points",
        f"ecr_repository.platform: the repository {NAME} is not empty, it holds 1 images (1)",
    ):
        assert f"{content}; set `lakehouse_destroy_data` to true" in refused.words
    assert "delete_contents" not in refused.output
    run = destroy(cloud, **CONFIRMED, lakehouse_destroy_data=True)
    assert run.exit_code == 0, run.output
    assert cloud.contents() == []
    assert re.search(rf"db_instance.main \({NAME}-final-\S+\): final snapshot", run.words)
    assert f"kept, since it encrypts the final snapshot of {NAME}" in run.words
    for address in ("kms_key.s3", "kms_key.eks", "secretsmanager_secret.encryption-keys"):
        assert re.search(rf"{re.escape(address)} \(\S+\): scheduled for deletion, \S+; readable until \S+", run.words)
