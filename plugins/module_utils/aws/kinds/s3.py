# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""S3: buckets with all their settings."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from ...engine.errors import EngineError
from ...engine.resource import LATER, READY, Actual, Later, Owner, Request, Subject
from ...engine.schema import ValidationError
from ..errors import CallError
from ..kind import (
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
)
from ..s3_content import SHOWN, content_of, latest_end
from ..s3_cors import cors_to_api
from ..s3_rules import rule_to_api, tiering_from_api, tiering_to_api
from ..s3_settings import (
    BUCKET,
    LOGGING,
    PUBLIC_ACCESS,
    SETTINGS,
    TAGGING,
    Setting,
    encryption_rule,
    merged_policy,
    split_policy,
)

# S3 rejects concurrent changes of a bucket.
_BUSY = ("OperationAborted",)
# A new bucket, and a new role in a policy, are not visible everywhere at once.
_NEW = (*_BUSY, "NoSuchBucket", "MalformedPolicy:Invalid principal")
_GONE = ("404", "NoSuchBucket")
_FOREIGN = ("403", "AccessDenied")
_PAGE = 1000
_BATCHES_AT_ONCE = 8
_EMPTYINGS = 5
# Settings of a new bucket, which need no call.
_AS_CREATED: Mapping[str, Any] = {
    "versioning": False,
    "encryption": {"sse_algorithm": "AES256", "kms_key_id": None},
    "lifecycle_rules": None,
    "intelligent_tiering": None,
    "logging": None,
    "cors_rules": None,
}


class S3Bucket(AwsKind):
    """A bucket."""

    name = "s3_bucket"
    service = "s3"
    schema = BUCKET
    actions = Actions(
        read=(
            "s3:ListAllMyBuckets",
            "s3:ListBucket",
            "s3:ListBucketVersions",
            "s3:ListBucketMultipartUploads",
            "s3:GetBucketVersioning",
            "s3:GetEncryptionConfiguration",
            "s3:GetLifecycleConfiguration",
            "s3:GetBucketPublicAccessBlock",
            "s3:GetBucketOwnershipControls",
            "s3:GetBucketCORS",
            "s3:GetBucketPolicy",
            "s3:GetBucketObjectLockConfiguration",
            "s3:GetIntelligentTieringConfiguration",
            "s3:GetBucketLogging",
            "s3:GetBucketTagging",
        ),
        create=(
            "s3:CreateBucket",
            "s3:TagResource",
            "s3:PutBucketTagging",
            "s3:PutBucketVersioning",
            "s3:PutEncryptionConfiguration",
            "s3:PutLifecycleConfiguration",
            "s3:PutBucketPublicAccessBlock",
            "s3:PutBucketOwnershipControls",
            "s3:PutBucketCORS",
            "s3:PutBucketPolicy",
            "s3:PutBucketObjectLockConfiguration",
            "s3:PutIntelligentTieringConfiguration",
            "s3:PutBucketLogging",
        ),
        update=(
            "s3:PutBucketTagging",
            "s3:PutBucketVersioning",
            "s3:PutEncryptionConfiguration",
            "s3:PutLifecycleConfiguration",
            "s3:PutBucketPublicAccessBlock",
            "s3:PutBucketAcl",
            "s3:PutBucketOwnershipControls",
            "s3:PutBucketCORS",
            "s3:PutBucketPolicy",
            "s3:DeleteBucketPolicy",
            "s3:PutBucketObjectLockConfiguration",
            "s3:PutIntelligentTieringConfiguration",
            "s3:PutBucketLogging",
        ),
        delete=(
            "s3:DeleteBucket",
            "s3:AbortMultipartUpload",
            "s3:DeleteObject",
            "s3:DeleteObjectVersion",
            "s3:BypassGovernanceRetention",
        ),
    )

    def _by_name(self, subjects: Sequence[Subject]) -> dict[str, Sequence[Actual] | Later]:
        answers = self.session.each(self._found, subjects)
        return {subject.address: answer for subject, answer in zip(subjects, answers, strict=True)}

    def probe(self, subject: Subject) -> Actual | None:
        name = str(subject.desired["name"])
        region = self._regions().get(name)
        if region is None or region in {"", self.session.region}:
            found = self._found(subject)
            return None if isinstance(found, Later) else next(iter(found), None)
        # The settings of a bucket can be read in its own region only.
        return Actual(name, {"name": name}, owner=replace(subject.owner, region=region))

    def _found(self, subject: Subject) -> Sequence[Actual] | Later:
        if not self.is_identified(subject.desired):
            return LATER
        name = str(subject.desired["name"])
        region = self._regions().get(name)
        if region is None:
            whose = self._whose(name)
            if whose != "ours":
                return [Actual(name, {"name": name}, owner=Owner("another AWS account", "", ""))] if whose else []
        elif region not in {"", self.session.region}:
            message = f"the bucket {name} is in {region} and not in {self.session.region}"
            raise EngineError(f"{message}; work in that region, or give the bucket another name")
        actual = self._planned(name, with_logging="logging" in subject.desired)
        return [] if actual is None else [actual]

    def _regions(self) -> dict[str, str]:
        """Return the names of all buckets of the account, with their regions; read once."""

        def listed() -> dict[str, str]:
            # S3 returns the regions only for a request with a parameter.
            buckets = self.session.pages("s3", "list_buckets", "Buckets", MaxBuckets=_PAGE)
            return {bucket["Name"]: bucket.get("BucketRegion", "") for bucket in buckets}

        return self.session.once("s3 buckets", listed)

    def _whose(self, name: str) -> Literal["ours", "another account's", ""]:
        """Return the owner of a bucket; empty where it does not exist. S3 hides all else of foreign buckets."""
        try:
            found = self.session.look("s3", "head_bucket", _GONE, **self._bucket(name))
        except CallError as error:
            if error.is_one_of(_FOREIGN):
                return "another account's"
            raise
        return "" if found is None else "ours"

    def _bucket(self, name: str) -> dict[str, Any]:
        """Return the common parameters: the bucket, and its expected owner, so that S3 rejects a foreign bucket."""
        return {"Bucket": name, "ExpectedBucketOwner": self.session.identity().account_id}

    def _arn(self, name: str) -> str:
        return f"arn:{self.session.identity().partition}:s3:::{name}"

    def read(self, id_: str) -> Actual | None:
        return self._read(id_, (*SETTINGS, LOGGING), self._tags) if self._whose(id_) == "ours" else None

    def _planned(self, name: str, *, with_logging: bool = False) -> Actual | None:
        """Read a bucket for a plan; the listing of owned buckets needs the same data."""
        settings = (*SETTINGS, LOGGING) if with_logging else SETTINGS
        key = f"s3 bucket {name} {len(settings)}"
        return self.session.once(key, lambda: self._read(name, settings, self._planned_tags))

    def _planned_tags(self, name: str) -> dict[str, str]:
        return self.session.once(f"s3 tags {name}", lambda: self._tags(name))

    def _tags(self, name: str) -> dict[str, str]:
        tags: dict[str, str] = self._setting(TAGGING, name)["tags"]
        return tags

    def _read(self, name: str, settings: Sequence[Setting], tags: Callable[[str], dict[str, str]]) -> Actual | None:
        parts: list[Callable[[], dict[str, Any]]] = [
            *(functools.partial(self._setting, setting, name) for setting in settings),
            functools.partial(self._tierings, name),
            lambda: {"tags": tags(name)},
        ]
        try:
            answers = self.session.each(lambda part: part(), parts)
        except CallError as error:
            if error.is_one_of(_GONE):
                return None
            raise
        return self._actual(name, {field: value for answer in answers for field, value in answer.items()})

    def _setting(self, setting: Setting, name: str) -> dict[str, Any]:
        answer = self.session.look("s3", setting.operation, (setting.absent,), **self._bucket(name))
        return setting.parse(answer or {})

    def _tierings(self, name: str) -> dict[str, Any]:
        found: list[dict[str, Any]] = []
        token: dict[str, str] = {}
        while True:
            operation = "list_bucket_intelligent_tiering_configurations"
            page = self.session.call("s3", operation, **self._bucket(name), **token)
            found += map(tiering_from_api, page.get("IntelligentTieringConfigurationList") or ())
            if not page.get("NextContinuationToken"):
                return {"intelligent_tiering": found}
            token = {"ContinuationToken": page["NextContinuationToken"]}

    def _actual(self, name: str, found: Mapping[str, Any]) -> Actual:
        arn, tags = self._arn(name), found["tags"]
        policy = split_policy(found["policy"], arn)
        properties = {**found, **policy, "name": name, "tags": property_tags(tags)}
        return Actual(name, properties, {"id": name, "arn": arn}, owner_of(tags), READY, (arn,))

    def list_owned(self, owner: Owner) -> Sequence[Actual]:
        here = [name for name, region in self._regions().items() if region in {"", self.session.region}]

        def owned(name: str) -> Actual | None:
            try:
                found = owner_of(self._planned_tags(name))
            except CallError as error:
                # The caller can read the tags of its own buckets; this one is foreign, or was just deleted.
                if error.is_one_of((*_FOREIGN, *_GONE)):
                    return None
                raise
            return self._planned(name) if found and found.shares_stack_with(owner) else None

        return [actual for actual in self.session.each(owned, here) if actual is not None]

    def create(self, request: Request) -> Actual:
        wanted = request.desired
        name, region = str(wanted["name"]), self.session.region
        configuration: dict[str, Any] = {"Tags": tag_list(all_tags(request))}
        if region != "us-east-1":
            configuration["LocationConstraint"] = region
        self.session.call_once(
            "s3",
            "create_bucket",
            lambda: {} if self._whose(name) == "ours" else None,
            retry_on=_BUSY,
            Bucket=name,
            CreateBucketConfiguration=configuration,
            ObjectOwnership=wanted["object_ownership"],
            ObjectLockEnabledForBucket=wanted["object_lock"] is not None,
        )
        # Some implementations ignore tags at creation.
        self._put("put_bucket_tagging", name, Tagging={"TagSet": tag_list(all_tags(request))})
        for field, write in self._writers().items():
            if field in wanted and field != "object_ownership" and wanted[field] != _AS_CREATED.get(field, ...):
                write(name, request)
        return Actual(name, wanted, {"id": name, "arn": self._arn(name)}, request.owner)

    def update(self, request: Request) -> Actual:
        name = request.existing.id
        for field, write in self._writers().items():
            if request.changed(field) or (field == "policy" and request.changed("tls_only")):
                write(name, request)
        self._write_tags(name, request)
        return request.existing

    def _writers(self) -> dict[str, Callable[[str, Request], None]]:
        """Return the function that writes each property, in the order in which S3 accepts them."""
        return {
            "public_access_block": self._write_public_access_block,
            "object_ownership": self._write_object_ownership,
            "versioning": self._write_versioning,
            "object_lock": self._write_object_lock,
            "encryption": self._write_encryption,
            "lifecycle_rules": self._write_lifecycle,
            "intelligent_tiering": self._write_tierings,
            "logging": self._write_logging,
            "cors_rules": self._write_cors,
            "policy": self._write_policy,
        }

    def _put(self, operation: str, name: str, **parameters: Any) -> None:
        self.session.call("s3", operation, retry_on=_NEW, **self._bucket(name), **parameters)

    def _write_public_access_block(self, name: str, request: Request) -> None:
        wanted = request.desired["public_access_block"]
        block = {parameter: wanted[field] for field, parameter in PUBLIC_ACCESS.items()}
        self._put("put_public_access_block", name, PublicAccessBlockConfiguration=block)

    def _write_object_ownership(self, name: str, request: Request) -> None:
        ownership = request.desired["object_ownership"]
        if ownership == "BucketOwnerEnforced":
            # S3 refuses to disable ACLs while one grants access to others, as InvalidBucketAclWithObjectOwnership.
            self._put("put_bucket_acl", name, ACL="private")
        rules = [{"ObjectOwnership": ownership}]
        self._put("put_bucket_ownership_controls", name, OwnershipControls={"Rules": rules})

    def _write_versioning(self, name: str, request: Request) -> None:
        status = "Enabled" if request.desired["versioning"] else "Suspended"
        self._put("put_bucket_versioning", name, VersioningConfiguration={"Status": status})

    def _write_object_lock(self, name: str, request: Request) -> None:
        lock = request.desired["object_lock"]
        if lock is None:
            return
        retention = given({field.capitalize(): lock[field] for field in ("mode", "days", "years")})
        rule = {"Rule": {"DefaultRetention": retention}} if retention else {}
        self._put(
            "put_object_lock_configuration", name, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", **rule}
        )

    def _write_encryption(self, name: str, request: Request) -> None:
        """Write encryption together with the existing blocked types, because omitted ones would be allowed."""
        wanted = request.desired["encryption"]
        absent = ("ServerSideEncryptionConfigurationNotFoundError",)
        answer = self.session.look("s3", "get_bucket_encryption", absent, retry_on=_NEW, **self._bucket(name))
        before = encryption_rule(answer or {})
        algorithm = wanted["sse_algorithm"]
        with_key = wanted.get("bucket_key_enabled", before.get("BucketKeyEnabled") if request.actual else None)
        rule = {
            **before,
            "ApplyServerSideEncryptionByDefault": given(
                {"SSEAlgorithm": algorithm, "KMSMasterKeyID": wanted["kms_key_id"]}
            ),
            "BucketKeyEnabled": algorithm == "aws:kms" if with_key is None else with_key,
        }
        self._put("put_bucket_encryption", name, ServerSideEncryptionConfiguration={"Rules": [rule]})

    def _write_lifecycle(self, name: str, request: Request) -> None:
        rules = [rule_to_api(rule) for rule in request.desired["lifecycle_rules"] or ()]
        if rules:
            self._put("put_bucket_lifecycle_configuration", name, LifecycleConfiguration={"Rules": rules})
        else:
            self._put("delete_bucket_lifecycle", name)

    def _write_tierings(self, name: str, request: Request) -> None:
        wanted = {tiering["id"]: tiering for tiering in request.desired["intelligent_tiering"] or ()}
        before = request.actual.properties.get("intelligent_tiering") if request.actual else None
        for id_, tiering in wanted.items():
            configuration = {"Id": id_, "IntelligentTieringConfiguration": tiering_to_api(tiering)}
            self._put("put_bucket_intelligent_tiering_configuration", name, **configuration)
        for id_ in sorted({tiering["id"] for tiering in before or ()} - set(wanted)):
            self._put("delete_bucket_intelligent_tiering_configuration", name, Id=id_)

    def _write_logging(self, name: str, request: Request) -> None:
        wanted = request.desired["logging"]
        status: dict[str, Any] = {}
        if wanted:
            target = {"TargetBucket": wanted["target_bucket"], "TargetPrefix": wanted["target_prefix"]}
            status = {"LoggingEnabled": target}
        self._put("put_bucket_logging", name, BucketLoggingStatus=status)

    def _write_cors(self, name: str, request: Request) -> None:
        rules = [cors_to_api(rule) for rule in request.desired["cors_rules"] or ()]
        if rules:
            self._put("put_bucket_cors", name, CORSConfiguration={"CORSRules": rules})
        else:
            self._put("delete_bucket_cors", name)

    def _write_policy(self, name: str, request: Request) -> None:
        wanted = request.desired
        policy = merged_policy(wanted["policy"], self._arn(name), tls_only=wanted["tls_only"])
        if policy is not None:
            self._put("put_bucket_policy", name, Policy=document(policy))
        elif request.actual is not None:
            self._put("delete_bucket_policy", name)

    def _write_tags(self, name: str, request: Request) -> None:
        """Write all tags at once, as S3 requires, including those of other owners."""
        changed, removed = tag_changes(request)
        if changed or removed:
            kept = {key: value for key, value in self._tags(name).items() if key not in removed}
            self._put("put_bucket_tagging", name, Tagging={"TagSet": tag_list({**kept, **changed})})

    def wait(self, request: Request) -> Actual:
        # The previous calls have shown that the bucket is available.
        return self.managed_tags(request.existing, request.desired)

    def delete(self, request: Request) -> None:
        name = request.existing.id
        for _attempt in range(_EMPTYINGS):
            try:
                self.session.look("s3", "delete_bucket", _GONE, retry_on=_BUSY, **self._bucket(name))
                return
            except CallError as error:
                if not error.is_one_of(("BucketNotEmpty",)):
                    raise
            if not _may_empty(request):
                content = content_of(self._first_page(name)) or "objects"
                raise EngineError(f"the bucket {name} is not empty, it contains {content}; {_remedy(request)}")
            self._empty(request)
        raise EngineError(f"the bucket {name} was emptied {_EMPTYINGS} times and is not empty: stop what writes to it")

    def obstacles(self, request: Request) -> Sequence[ValidationError]:
        """Return the content of a bucket that must not be emptied, or the lock that keeps it from being emptied."""
        name = request.existing.id
        if not _may_empty(request):
            content = content_of(self._first_page(name))
            return [("", f"the bucket {name} is not empty, it contains {content}", _remedy(request))] if content else []
        lock = request.existing.properties.get("object_lock") or {}
        if lock.get("mode") != "COMPLIANCE":
            return []
        locked = latest_end(self._versions(name), lock)
        if locked is None:
            return []
        message = f"the bucket {name} contains objects that cannot be deleted before {locked.isoformat()}"
        return [("object_lock", message, "destroy it after that date")]

    def _first_page(self, name: str) -> dict[str, Any]:
        """Return one page of versions and delete markers, and one of unfinished uploads."""
        page = self.session.call("s3", "list_object_versions", MaxKeys=_PAGE, **self._bucket(name))
        uploads = self.session.call("s3", "list_multipart_uploads", MaxUploads=_PAGE, **self._bucket(name))
        is_truncated = bool(page.get("IsTruncated") or uploads.get("IsTruncated"))
        return {**page, "Uploads": uploads.get("Uploads") or [], "IsTruncated": is_truncated}

    def _versions(self, name: str) -> Iterator[dict[str, Any]]:
        """Yield the pages of all versions and delete markers, each read on demand."""
        position: dict[str, str] = {}
        while True:
            page = self.session.call("s3", "list_object_versions", MaxKeys=_PAGE, **self._bucket(name), **position)
            yield page
            if not page.get("IsTruncated"):
                return
            position = {"KeyMarker": page["NextKeyMarker"], "VersionIdMarker": page["NextVersionIdMarker"]}

    def _uploads(self, name: str) -> Iterator[dict[str, Any]]:
        """Yield the pages of unfinished uploads."""
        position: dict[str, str] = {}
        while True:
            page = self.session.call("s3", "list_multipart_uploads", MaxUploads=_PAGE, **self._bucket(name), **position)
            yield page
            if not page.get("IsTruncated"):
                return
            position = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}

    def _empty(self, request: Request) -> None:
        """Delete every version, delete marker and unfinished upload, a few batches at once."""
        name = request.existing.id
        for page in self._uploads(name):
            self.session.each(lambda upload: self._abort(name, upload), page.get("Uploads") or ())
        # A permission overrides a lock in governance mode; S3 does not check it without a lock.
        bypass = {"BypassGovernanceRetention": True} if request.existing.properties.get("object_lock") else {}

        def delete(batch: Sequence[Mapping[str, str]]) -> None:
            self._delete_objects(name, batch, bypass)

        batches: list[list[dict[str, str]]] = []
        for page in self._versions(name):
            found = [*(page.get("Versions") or ()), *(page.get("DeleteMarkers") or ())]
            if found:
                batches.append([{"Key": item["Key"], "VersionId": item["VersionId"]} for item in found])
            if len(batches) == _BATCHES_AT_ONCE:
                self.session.each(delete, batches)
                batches = []
        self.session.each(delete, batches)

    def _abort(self, name: str, upload: Mapping[str, Any]) -> None:
        named = {"Key": upload["Key"], "UploadId": upload["UploadId"]}
        self.session.look("s3", "abort_multipart_upload", ("NoSuchUpload",), **self._bucket(name), **named)

    def _delete_objects(self, name: str, batch: Sequence[Mapping[str, str]], options: Mapping[str, Any]) -> None:
        wanted = {"Objects": batch, "Quiet": True}
        answer = self.session.call("s3", "delete_objects", Delete=wanted, **options, **self._bucket(name))
        errors = answer.get("Errors") or []
        if errors:
            shown = "; ".join(f"{item['Key']}: {item['Code']}: {item.get('Message', '')}" for item in errors[:SHOWN])
            raise EngineError(f"{len(errors)} of {len(batch)} objects of the bucket {name} cannot be deleted: {shown}")


def _may_empty(request: Request) -> bool:
    return request.erases or request.desired.get("force_destroy") is True


def _remedy(request: Request) -> str:
    return contents_remedy(request, "set force_destroy: true on it, or move them elsewhere")
