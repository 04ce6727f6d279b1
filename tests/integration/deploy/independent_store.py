# SPDX-License-Identifier: GPL-3.0-or-later
"""An object store that is independent of a lakehouse: a server with TLS, a locked bucket and its own credentials."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3

from tests.integration.patience import wait_for
from tests.unit.kube.authority import Authority

BUCKET = "lakehouse-backups"
REGION = "eu-central-1"
RETENTION_DAYS = 7
START_LIMIT_S = 60.0
STOP_LIMIT_S = 60.0
READS = (
    "s3:GetObject",
    "s3:GetObjectVersion",
    "s3:GetObjectRetention",
    "s3:ListBucket",
    "s3:ListBucketVersions",
)
# The permissions of docs/backup.md.
ACTIONS = {
    "create": (
        *READS,
        "s3:PutObject",
        "s3:PutObjectRetention",
        "s3:AbortMultipartUpload",
        "s3:GetBucketVersioning",
        "s3:GetBucketObjectLockConfiguration",
        "s3:GetLifecycleConfiguration",
    ),
    "restore": READS,
}


@dataclass(frozen=True)
class IndependentStore:
    """A running store. keys: access key and secret key by identity: `admin`, `create` and `restore`."""

    url: str
    ca_bundle: Path
    keys: dict[str, tuple[str, str]]

    def client(self, identity: str) -> Any:
        access_key, secret_key = self.keys[identity]
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name=REGION,
            verify=str(self.ca_bundle),
            aws_access_key_id=access_key,
            aws_secret_access_key=secret_key,
        )

    @property
    def variables(self) -> dict[str, Any]:
        """Inventory variables for backups to this store, as docs/backup.md describes them."""
        return {
            "lakehouse_backup_endpoint_url": self.url,
            "lakehouse_backup_bucket": BUCKET,
            "lakehouse_backup_region": REGION,
            "lakehouse_backup_ca_bundle": str(self.ca_bundle),
            "lakehouse_backup_retention_days": RETENTION_DAYS,
            "lakehouse_secrets": {
                f"backup_{identity}_{part}_key": value
                for identity in ACTIONS
                for part, value in zip(("access", "secret"), self.keys[identity], strict=True)
            },
        }


@contextlib.contextmanager
def independent_store(folder: Path, weed: Path, free_port: Callable[[], int]) -> Iterator[IndependentStore]:
    """Run a store in a new folder. Its authority is a file there that every user may read."""
    folder.mkdir(mode=0o711)
    keys = {name: (secrets.token_hex(10), secrets.token_hex(20)) for name in ("admin", *ACTIONS)}
    authority = Authority()
    ca_bundle = folder / "authority.pem"
    ca_bundle.write_text(authority.pem)
    ca_bundle.chmod(0o644)
    issued = authority.issue()
    for name, text in {"tls.crt": issued.certificate, "tls.key": issued.key, "s3.json": _identities(keys)}.items():
        (folder / name).touch(mode=0o600)
        (folder / name).write_text(text)
    store = IndependentStore(f"https://127.0.0.1:{(port := free_port())}", ca_bundle, keys)
    with _running(_command(folder, weed, port, free_port), folder):
        client = store.client("admin")
        wait_for(lambda: _answers(client), "the independent store", START_LIMIT_S)
        client.create_bucket(Bucket=BUCKET, ObjectLockEnabledForBucket=True)
        rule = {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": RETENTION_DAYS}}
        configuration = {"ObjectLockEnabled": "Enabled", "Rule": rule}
        client.put_object_lock_configuration(Bucket=BUCKET, ObjectLockConfiguration=configuration)
        yield store


def _identities(keys: dict[str, tuple[str, str]]) -> str:
    resources = [f"arn:aws:s3:::{BUCKET}", f"arn:aws:s3:::{BUCKET}/*"]
    policies = {
        identity: {
            "Version": "2012-10-17",
            "Statement": [{"Effect": "Allow", "Action": list(actions), "Resource": resources}],
        }
        for identity, actions in ACTIONS.items()
    }
    return json.dumps(
        {
            "identities": [
                {
                    "name": identity,
                    "credentials": [{"accessKey": access_key, "secretKey": secret_key}],
                    **({"policyNames": [identity]} if identity in policies else {"actions": ["Admin"]}),
                }
                for identity, (access_key, secret_key) in keys.items()
            ],
            "policies": [{"name": name, "content": json.dumps(policy)} for name, policy in policies.items()],
        }
    )


def _command(folder: Path, weed: Path, port: int, free_port: Callable[[], int]) -> list[str]:
    ports = [f"-{role}.port{kind}={free_port()}" for role in ("master", "volume", "filer") for kind in ("", ".grpc")]
    data = folder / "data"
    data.mkdir(mode=0o700)
    return [
        str(weed),
        "-logtostderr=true",
        "server",
        f"-dir={data}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        "-master.telemetry=false",
        "-master.volumeSizeLimitMB=64",
        "-volume.max=0",
        "-filer",
        f"-filer.localSocket={folder / 'filer.sock'}",
        "-s3",
        f"-s3.port={port}",
        f"-s3.port.grpc={free_port()}",
        f"-s3.port.iceberg={free_port()}",
        "-s3.port.lance=0",
        f"-s3.localSocket={folder / 's3.sock'}",
        f"-s3.config={folder / 's3.json'}",
        f"-s3.cert.file={folder / 'tls.crt'}",
        f"-s3.key.file={folder / 'tls.key'}",
        *ports,
    ]


@contextlib.contextmanager
def _running(command: list[str], folder: Path) -> Iterator[None]:
    # Each run of a lakehouse's place stops processes with the folder in their environment, after any result of the
    # test.
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig=KILL", "--", *command], cwd=folder, stdout=log, stderr=log, env=dict(os.environ)
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(client: Any) -> bool:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        client.list_buckets()
    except (BotoCoreError, ClientError):
        return False
    return True
