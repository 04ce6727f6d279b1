# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ECR: repositories of container images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ...engine.errors import EngineError
from ...engine.resource import READY, Actual, Owner, Request
from ...engine.schema import Output, Property, Schema, ValidationError
from ..errors import CallError
from ..kind import (
    TAGS,
    Actions,
    AwsKind,
    all_tags,
    contents_remedy,
    document,
    given,
    owner_of,
    property_tags,
    tag_changes,
    tag_list,
    tag_map,
)
from ..naming import repository_name_fault
from ..policy import policy_property
from ..spelling import key_id

_ABSENT = ("RepositoryNotFoundException",)
# A role in a policy is not visible everywhere at once.
_NEW = ("InvalidParameterException:Principal not found", "InvalidParameterException:invalid principal")
_EXCLUDING = ("IMMUTABLE_WITH_EXCLUSION", "MUTABLE_WITH_EXCLUSION")


def _faults(desired: Mapping[str, Any], _existing: Mapping[str, Any] | None) -> Iterator[ValidationError]:
    filters, mutability = desired["image_tag_mutability_exclusion_filters"], desired["image_tag_mutability"]
    if isinstance(mutability, str) and (mutability in _EXCLUDING) != bool(filters):
        path, remedy = "image_tag_mutability_exclusion_filters", f"they are for {' and '.join(_EXCLUDING)}"
        yield path, f"{'do' if filters else 'are missing and would'} not go with {mutability}", remedy
    encryption = desired["encryption"]
    if encryption.get("kms_key") is not None and encryption["encryption_type"] == "AES256":
        yield "encryption.kms_key", "AES256 uses no key of KMS", "set encryption_type: KMS, or omit the key"


class EcrRepository(AwsKind):
    """A repository of container images."""

    name = "ecr_repository"
    service = "ecr"
    schema = Schema(
        {
            "name": Property(
                required=True,
                replace=True,
                check=repository_name_fault,
                purpose="Name, unique in the account and region.",
            ),
            "image_tag_mutability": Property(
                when_unset="MUTABLE",
                choices=("MUTABLE", "IMMUTABLE", *_EXCLUDING),
                purpose="Whether a tag can be moved to another image.",
            ),
            "image_tag_mutability_exclusion_filters": Property(
                "set",
                purpose="Patterns of tags with the opposite mutability.",
                elements=Property(
                    "map",
                    fields={
                        "filter_type": Property(default="WILDCARD", choices=("WILDCARD",)),
                        "filter": Property(required=True, purpose="Pattern of tags, such as `dev-*`."),
                    },
                ),
            ),
            "scan_on_push": Property("boolean", when_unset=False, purpose="Whether to scan new images."),
            "encryption": Property(
                "map",
                default={},
                when_unset={"encryption_type": "AES256"},
                replace=True,
                purpose="Encryption of images.",
                fields={
                    "encryption_type": Property(
                        default="AES256",
                        when_unset="AES256",
                        choices=("AES256", "KMS", "KMS_DSSE"),
                        purpose="Encryption with a key of S3 or of KMS.",
                    ),
                    "kms_key": Property(
                        computed=True, canonical=key_id, purpose="ARN of the key. The AWS managed key if omitted."
                    ),
                },
            ),
            "lifecycle_policy": Property("json", purpose="Policy for the expiration of images."),
            "policy": policy_property("Access policy of the repository, for other accounts and services."),
            "force_delete": Property(
                "boolean",
                owned_by="the description",
                purpose="Whether a deletion also deletes the images. If false, it is refused while images exist.",
            ),
            "tags": TAGS,
        },
        {"id": Output("Name."), "arn": Output("ARN."), "uri": Output("URI for pushing and pulling images.")},
        protected=True,
        unique_by=("name",),
        check=_faults,
    )
    actions = Actions(
        read=(
            "ecr:DescribeRepositories",
            "ecr:GetLifecyclePolicy",
            "ecr:GetRepositoryPolicy",
            "ecr:ListImages",
            "ecr:ListTagsForResource",
        ),
        create=(
            "ecr:CreateRepository",
            "ecr:TagResource",
            "ecr:PutLifecyclePolicy",
            "ecr:SetRepositoryPolicy",
            "kms:DescribeKey",
            "kms:CreateGrant",
        ),
        update=(
            "ecr:PutImageTagMutability",
            "ecr:PutImageScanningConfiguration",
            "ecr:PutLifecyclePolicy",
            "ecr:DeleteLifecyclePolicy",
            "ecr:SetRepositoryPolicy",
            "ecr:DeleteRepositoryPolicy",
            "ecr:TagResource",
            "ecr:UntagResource",
        ),
        delete=("ecr:DeleteRepository", "kms:RetireGrant"),
    )

    def read(self, id_: str) -> Actual | None:
        answer = self.session.look("ecr", "describe_repositories", _ABSENT, repositoryNames=[id_])
        return self._actual(answer["repositories"][0]) if answer else None

    def list_owned(self, owner: Owner) -> Sequence[Actual]:
        def owned(repository: Mapping[str, Any]) -> Actual | None:
            tags = self._tags(repository["repositoryArn"])
            found = owner_of(tags)
            return self._actual(repository, tags) if found and found.shares_stack_with(owner) else None

        repositories = self.session.pages("ecr", "describe_repositories", "repositories")
        return [actual for actual in self.session.each(owned, repositories) if actual is not None]

    def _actual(self, repository: Mapping[str, Any], tags: Mapping[str, str] | None = None) -> Actual | None:
        name, arn = repository["repositoryName"], repository["repositoryArn"]
        asked: list[Callable[[], Any]] = [
            lambda: self._text("get_lifecycle_policy", "lifecyclePolicyText", "LifecyclePolicyNotFoundException", name),
            lambda: self._text("get_repository_policy", "policyText", "RepositoryPolicyNotFoundException", name),
            lambda: self._tags(arn) if tags is None else tags,
        ]
        lifecycle_policy, policy, found_tags = self.session.each(lambda ask: ask(), asked)
        encryption = repository.get("encryptionConfiguration") or {}
        properties = {
            "name": name,
            "image_tag_mutability": repository.get("imageTagMutability"),
            "image_tag_mutability_exclusion_filters": [
                {"filter_type": item["filterType"], "filter": item["filter"]}
                for item in repository.get("imageTagMutabilityExclusionFilters") or ()
            ],
            "scan_on_push": (repository.get("imageScanningConfiguration") or {}).get("scanOnPush"),
            "encryption": {
                "encryption_type": encryption.get("encryptionType"),
                "kms_key": encryption.get("kmsKey"),
            },
            "lifecycle_policy": lifecycle_policy,
            "policy": policy,
            "tags": property_tags(found_tags),
        }
        outputs = {"id": name, "arn": arn, "uri": repository["repositoryUri"]}
        return Actual(name, properties, outputs, owner_of(found_tags), READY, (arn, repository["repositoryUri"]))

    def _text(self, operation: str, key: str, absent: str, name: str) -> str | None:
        answer = self.session.look("ecr", operation, (absent, *_ABSENT), repositoryName=name)
        return answer[key] if answer else None

    def _tags(self, arn: str) -> dict[str, str]:
        answer = self.session.look("ecr", "list_tags_for_resource", _ABSENT, resourceArn=arn)
        return tag_map((answer or {}).get("tags"))

    def create(self, request: Request) -> Actual:
        wanted = request.desired
        name, encryption = str(wanted["name"]), wanted["encryption"]
        key = encryption.get("kms_key")
        parameters = {
            "repositoryName": name,
            "imageTagMutability": wanted["image_tag_mutability"],
            "imageTagMutabilityExclusionFilters": _exclusion_filters(wanted),
            "imageScanningConfiguration": {"scanOnPush": wanted["scan_on_push"]},
            "encryptionConfiguration": given({"encryptionType": encryption["encryption_type"], "kmsKey": key}),
            "tags": tag_list(all_tags(request)),
        }
        self.session.call_once("ecr", "create_repository", lambda: self._made(name), **given(parameters))
        if wanted["lifecycle_policy"] is not None:
            self._write_lifecycle_policy(name, wanted)
        if wanted["policy"] is not None:
            self._write_policy(name, wanted)
        return Actual(name, wanted, {"id": name}, request.owner)

    def _made(self, name: str) -> dict[str, Any] | None:
        return self.session.look("ecr", "describe_repositories", _ABSENT, repositoryNames=[name])

    def update(self, request: Request) -> Actual:
        wanted, name = request.desired, request.existing.id
        if request.changed("image_tag_mutability") or request.changed("image_tag_mutability_exclusion_filters"):
            filters = _exclusion_filters(wanted)
            parameters = {
                "imageTagMutability": wanted["image_tag_mutability"],
                "imageTagMutabilityExclusionFilters": filters,
            }
            self.session.call("ecr", "put_image_tag_mutability", repositoryName=name, **given(parameters))
        if request.changed("scan_on_push"):
            scanning = {"scanOnPush": wanted["scan_on_push"]}
            operation = "put_image_scanning_configuration"
            self.session.call("ecr", operation, repositoryName=name, imageScanningConfiguration=scanning)
        if request.changed("lifecycle_policy"):
            self._write_lifecycle_policy(name, wanted)
        if request.changed("policy"):
            self._write_policy(name, wanted)
        self._write_tags(request)
        return request.existing

    def _write_lifecycle_policy(self, name: str, wanted: Mapping[str, Any]) -> None:
        policy = wanted["lifecycle_policy"]
        if policy is not None:
            self.session.call("ecr", "put_lifecycle_policy", repositoryName=name, lifecyclePolicyText=document(policy))
        else:
            absent = ("LifecyclePolicyNotFoundException",)
            self.session.look("ecr", "delete_lifecycle_policy", absent, repositoryName=name)

    def _write_policy(self, name: str, wanted: Mapping[str, Any]) -> None:
        policy = wanted["policy"]
        if policy is not None:
            text = document(policy)
            self.session.call("ecr", "set_repository_policy", retry_on=_NEW, repositoryName=name, policyText=text)
        else:
            absent = ("RepositoryPolicyNotFoundException",)
            self.session.look("ecr", "delete_repository_policy", absent, repositoryName=name)

    def _write_tags(self, request: Request) -> None:
        arn = request.existing.outputs["arn"]
        changed, removed = tag_changes(request)
        if changed:
            self.session.call("ecr", "tag_resource", resourceArn=arn, tags=tag_list(changed))
        if removed:
            self.session.call("ecr", "untag_resource", resourceArn=arn, tagKeys=removed)

    def delete(self, request: Request) -> None:
        name = request.existing.id
        force = _may_delete_images(request)
        try:
            self.session.look("ecr", "delete_repository", _ABSENT, repositoryName=name, force=force)
        except CallError as error:
            if error.is_one_of(("RepositoryNotEmptyException",)):
                content = self._content(name) or "images"
                message = f"the repository {name} is not empty, it holds {content}; {_remedy(request)}"
                raise EngineError(message) from error
            raise

    def obstacles(self, request: Request) -> Sequence[ValidationError]:
        """Return the images of a repository that must not be deleted with it."""
        name = request.existing.id
        content = "" if _may_delete_images(request) else self._content(name)
        return [("", f"the repository {name} is not empty, it holds {content}", _remedy(request))] if content else []

    def _content(self, name: str) -> str:
        images = self.session.look("ecr", "list_images", _ABSENT, repositoryName=name, maxResults=1000) or {}
        found = images.get("imageIds") or []
        if not found:
            return ""
        tags = sorted({image["imageTag"] for image in found if image.get("imageTag")})
        shown = ", ".join(tags[:3]) + (", ..." if len(tags) > 3 else "") if tags else "none with a tag"
        return f"{'at least ' if images.get('nextToken') else ''}{len(found)} images ({shown})"


def _may_delete_images(request: Request) -> bool:
    return request.erases or request.desired.get("force_delete") is True


def _remedy(request: Request) -> str:
    return contents_remedy(request, "set force_delete: true on it, or move them elsewhere")


def _exclusion_filters(wanted: Mapping[str, Any]) -> list[dict[str, str]] | None:
    filters = wanted["image_tag_mutability_exclusion_filters"]
    return [{"filterType": item["filter_type"], "filter": item["filter"]} for item in filters] if filters else None
