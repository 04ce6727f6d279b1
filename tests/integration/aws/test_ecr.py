# SPDX-License-Identifier: GPL-3.0-or-later
"""Repositories of images on the emulators."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.errors import RefusedError
from tests.integration.aws.lab import Lab

KEY = "arn:aws:kms:eu-central-1:111122223333:key/11111111-2222-3333-4444-555555555555"
EXPIRE: dict[str, Any] = {
    "rules": [
        {
            "rulePriority": 1,
            "description": "what no tag names",
            "selection": {
                "tagStatus": "untagged",
                "countType": "sinceImagePushed",
                "countUnit": "days",
                "countNumber": 14,
            },
            "action": {"type": "expire"},
        }
    ]
}
PULL: dict[str, Any] = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Sid": "Pull",
            "Effect": "Allow",
            "Principal": {"AWS": "111122223333"},
            "Action": ["ecr:GetDownloadUrlForLayer", "ecr:BatchGetImage"],
        }
    ],
}


def repository(**properties: Any) -> dict[str, dict[str, Any]]:
    return {"ecr_repository.platform": {"name": "lake/platform", **properties}}


def edit_tags(lab: Lab, name: str, tags: dict[str, str], removed: list[str]) -> None:
    client = lab.client("ecr")
    arn = client.describe_repositories(repositoryNames=[name])["repositories"][0]["repositoryArn"]
    client.tag_resource(resourceArn=arn, tags=[{"Key": key, "Value": value} for key, value in tags.items()])
    client.untag_resource(resourceArn=arn, tagKeys=removed)


def push(lab: Lab, tag: str) -> None:
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": {"mediaType": "application/json", "size": 1, "digest": f"sha256:{tag * 64}"},
        "layers": [],
    }
    lab.client("ecr").put_image(repositoryName="lake/platform", imageManifest=json.dumps(manifest), imageTag=tag)


def test_a_repository_goes_through_its_life(lab: Lab) -> None:
    lab.assert_matrix(
        "ecr_repository.platform",
        {"name": "lake/platform", "image_tag_mutability": "IMMUTABLE", "policy": PULL},
        {"ecr_repository.other": {"name": "lake/other"}},
        changes={
            "image_tag_mutability": "MUTABLE",
            "scan_on_push": True,
            "lifecycle_policy": EXPIRE,
            "as text": {"lifecycle_policy": json.dumps({"rules": [{**EXPIRE["rules"][0], "description": "other"}]})},
            "no lifecycle_policy": {"lifecycle_policy": None},
            "policy": {**PULL, "Statement": [{**PULL["Statement"][0], "Action": ["ecr:BatchGetImage"]}]},
            "no policy": {"policy": None},
            "encryption": {"encryption_type": "KMS", "kms_key": KEY},
        },
        replaces=("encryption",),
        vanish=lambda lab, id_: lab.client("ecr").delete_repository(repositoryName=id_),
        edit_tags=edit_tags,
    )


def test_the_key_of_aws_is_no_difference(lab: Lab) -> None:
    described = repository(encryption={"encryption_type": "KMS"})
    lab.apply(described)
    lab.assert_unchanged(described)


def test_a_repository_with_images_is_not_deleted(lab: Lab) -> None:
    described = repository()
    lab.apply(described)
    for tag in ("1", "2"):
        push(lab, tag)
    with pytest.raises(RefusedError) as caught:
        lab.run(described, state="absent", unprotect=("ecr_repository",))
    assert "holds 2 images (1, 2); name ecr_repository.platform in delete_contents" in str(caught.value)
    assert "set force_delete: true" in str(caught.value)
    assert len(lab.client("ecr").list_images(repositoryName="lake/platform")["imageIds"]) == 2


def test_force_delete_deletes_the_images_as_well(lab: Lab) -> None:
    described = repository(force_delete=True)
    lab.apply(described)
    lab.assert_unchanged(described)
    push(lab, "1")
    lab.destroy(described)
    assert not lab.client("ecr").describe_repositories()["repositories"]
