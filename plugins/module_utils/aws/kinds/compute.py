# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""EC2: templates and key pairs of instances."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ...engine.resource import LATER, READY, Actual, Later, Owner, Request, Subject
from ...engine.schema import Output, Property, Schema
from ...engine.value import digest, is_known
from ..ec2 import owned_filters, tag_specifications, write_tags
from ..kind import TAGS, Actions, AwsKind, owner_of, property_tags, tag_list, tag_map
from ..naming import key_pair_name_fault, template_name_fault

_LATEST = "$Latest"
_NO_TEMPLATE = (
    "InvalidLaunchTemplateName.NotFoundException",
    "InvalidLaunchTemplateId.NotFound",
    "InvalidLaunchTemplateId.NotFoundException",
)
_NO_KEY = ("InvalidKeyPair.NotFound",)
_ENABLED = ("enabled", "disabled")

_EBS = {
    "volume_size": Property("integer", purpose="Size in GiB."),
    "volume_type": Property(purpose="Volume type, such as `gp3`."),
    "encrypted": Property("boolean", purpose="Whether to encrypt the volume."),
    "kms_key_id": Property(purpose="ARN of the encryption key."),
    "iops": Property("integer", purpose="I/O operations per second."),
    "throughput": Property("integer", purpose="Throughput in MiB/s."),
    "snapshot_id": Property(purpose="ID of the snapshot with the initial content."),
    "delete_on_termination": Property("boolean", purpose="Whether to delete the volume with its instance."),
}
_BLOCK_DEVICE = {
    "device_name": Property(required=True, purpose="Device name, such as `/dev/xvda`."),
    "ebs": Property("map", fields=_EBS, purpose="EBS volume."),
    "virtual_name": Property(purpose="Instance store volume, such as `ephemeral0`."),
    "no_device": Property(purpose="Empty string to omit a device of the image."),
}
_INTERFACE = {
    "device_index": Property("integer", purpose="Index of the interface. 0 is the first."),
    "network_card_index": Property("integer", purpose="Index of the network card."),
    "subnet_id": Property(purpose="ID of the subnet. Node groups set it themselves."),
    "groups": Property("set", elements=Property("string"), purpose="IDs of security groups."),
    "associate_public_ip_address": Property("boolean", purpose="Whether to assign a public address."),
    "delete_on_termination": Property("boolean", purpose="Whether to delete the interface with its instance."),
    "interface_type": Property(purpose="`interface` or `efa`."),
    "description": Property(purpose="Description."),
}
_METADATA = {
    "http_tokens": Property(
        default="required",
        choices=("required", "optional"),
        purpose="Whether the metadata service requires a session token.",
    ),
    "http_endpoint": Property(computed=True, choices=_ENABLED, purpose="Whether to enable the metadata service."),
    "http_put_response_hop_limit": Property(
        "integer", computed=True, purpose="Maximum network hops of responses. With 1, pods cannot read them."
    ),
    "instance_metadata_tags": Property(
        computed=True, choices=_ENABLED, purpose="Whether the metadata service returns the instance's tags."
    ),
}
_TAG_SPECIFICATION = {
    "resource_type": Property(required=True, purpose="Type of the resources, such as `instance` or `volume`."),
    "tags": Property("map", required=True, elements=Property("string"), purpose="Tags of these resources."),
}
# Resources of every instance, by EC2's resource types.
_INSTANCE_PARTS = ("instance", "volume", "network-interface")
# Properties in a version of a template.
_DATA = {
    "image_id": Property(purpose="ID of the image. Node groups choose one if omitted."),
    "instance_type": Property(purpose="Instance type."),
    "key_name": Property(purpose="Name of the key pair for SSH."),
    "ebs_optimized": Property("boolean", purpose="Whether to use dedicated bandwidth for EBS volumes."),
    "metadata_options": Property(
        "map", default={"http_tokens": "required"}, fields=_METADATA, purpose="Instance metadata service."
    ),
    "block_device_mappings": Property(
        "set", elements=Property("map", fields=_BLOCK_DEVICE), purpose="Block devices of an instance."
    ),
    "network_interfaces": Property(
        "list",
        elements=Property("map", fields=_INTERFACE),
        purpose="Network interfaces, instead of `security_group_ids`.",
    ),
    "security_group_ids": Property("set", elements=Property("string"), purpose="IDs of security groups."),
    "user_data": Property(purpose="User data for the first boot, as text."),
    "tag_specifications": Property(
        "set", elements=Property("map", fields=_TAG_SPECIFICATION), purpose="Tags of an instance's resources."
    ),
}


class LaunchTemplate(AwsKind):
    """A template of instances. A change creates a new version, which becomes the default."""

    name = "launch_template"
    service = "ec2"
    # Not found by name: a template with another name is the same resource, to be replaced.
    found_by = "tags"
    schema = Schema(
        {
            "name": Property(
                required=True,
                replace=True,
                check=template_name_fault,
                purpose="Name, unique in the account and region.",
            ),
            **_DATA,
            "default_version": Property(
                default=_LATEST, choices=(_LATEST,), purpose="Default version, which is always the newest one."
            ),
            "tags": TAGS,
        },
        {
            "id": Output("ID that AWS assigned."),
            "latest_version": Output("Number of the newest version.", changes_with=tuple(_DATA)),
        },
        unique_by=("name",),
    )
    actions = Actions(
        read=("ec2:DescribeLaunchTemplates", "ec2:DescribeLaunchTemplateVersions"),
        create=("ec2:CreateLaunchTemplate", "ec2:CreateTags"),
        update=(
            "ec2:CreateLaunchTemplateVersion",
            "ec2:ModifyLaunchTemplate",
            "ec2:CreateTags",
            "ec2:DeleteTags",
        ),
        delete=("ec2:DeleteLaunchTemplate",),
    )

    @classmethod
    def with_tags(cls, properties: Mapping[str, Any], tags: Mapping[str, str]) -> dict[str, Any]:
        """Add the tags to the instances' resources: a node group does not pass on its own tags."""
        tagged, own = super().with_tags(properties, tags), properties.get("tag_specifications") or []
        if not tags or not isinstance(own, list) or not all(isinstance(item, Mapping) for item in own):
            return tagged
        tags_by_type = {str(item.get("resource_type")): item.get("tags") or {} for item in own}
        types = dict.fromkeys((*tags_by_type, *_INSTANCE_PARTS))
        specifications = [{"resource_type": item, "tags": {**tags, **tags_by_type.get(item, {})}} for item in types]
        return {**tagged, "tag_specifications": specifications}

    def read(self, id_: str) -> Actual | None:
        return self._found(LaunchTemplateIds=[id_])

    def _found(self, **which: list[str]) -> Actual | None:
        answer = self.session.look("ec2", "describe_launch_templates", _NO_TEMPLATE, **which)
        templates = answer["LaunchTemplates"] if answer else []
        return self._actual(templates[0]) if templates else None

    def lookalikes(self, subject: Subject) -> Sequence[Actual] | Later:
        """Return the template with this name, which is unique."""
        name = subject.desired["name"]
        if not is_known(name):
            return LATER
        found = self._found(LaunchTemplateNames=[name])
        return [found] if found else []

    def list_owned(self, owner: Owner) -> Sequence[Actual]:
        found = self.session.pages("ec2", "describe_launch_templates", "LaunchTemplates", Filters=owned_filters(owner))
        return [actual for actual in self.session.each(self._actual, found) if actual]

    def _actual(self, template: Mapping[str, Any]) -> Actual | None:
        id_, tags = template["LaunchTemplateId"], tag_map(template.get("Tags"))
        latest, default = template["LatestVersionNumber"], template["DefaultVersionNumber"]
        answer = self.session.look(
            "ec2",
            "describe_launch_template_versions",
            _NO_TEMPLATE,
            LaunchTemplateId=id_,
            Versions=[_LATEST],
        )
        if not answer or not answer["LaunchTemplateVersions"]:
            return None
        properties = {
            "name": template["LaunchTemplateName"],
            **_read_data(answer["LaunchTemplateVersions"][0]["LaunchTemplateData"]),
            "default_version": _LATEST if default == latest else str(default),
            "tags": property_tags(tags),
        }
        outputs = {"id": id_, "latest_version": str(latest)}
        return Actual(id_, properties, outputs, owner_of(tags), READY, (template["LaunchTemplateName"],))

    def create(self, request: Request) -> Actual:
        name = request.desired["name"]

        def made() -> dict[str, Any] | None:
            actual = self._found(LaunchTemplateNames=[name])
            mine = actual is not None and actual.owner == request.owner
            return {"LaunchTemplate": {"LaunchTemplateId": actual.id}} if actual and mine else None

        answer = self.session.call_once(
            "ec2",
            "create_launch_template",
            made,
            LaunchTemplateName=name,
            LaunchTemplateData=_write_data(request.desired),
            TagSpecifications=tag_specifications("launch-template", request),
            ClientToken=request.token,
        )
        id_ = answer["LaunchTemplate"]["LaunchTemplateId"]
        return Actual(id_, request.desired, {"id": id_}, request.owner)

    def update(self, request: Request) -> Actual:
        id_, latest = request.existing.id, request.existing.outputs["latest_version"]
        if any(map(request.changed, _DATA)):
            data = _write_data(request.desired)
            answer = self.session.call(
                "ec2",
                "create_launch_template_version",
                LaunchTemplateId=id_,
                LaunchTemplateData=data,
                # The same change of the same version has the same token, also in another run.
                ClientToken=digest({"id": id_, "after": latest, "data": data}, 32),
            )
            latest = str(answer["LaunchTemplateVersion"]["VersionNumber"])
        if any(map(request.changed, (*_DATA, "default_version"))):
            self.session.call("ec2", "modify_launch_template", LaunchTemplateId=id_, DefaultVersion=latest)
        write_tags(self.session, request)
        return request.existing

    def delete(self, request: Request) -> None:
        self.session.look("ec2", "delete_launch_template", _NO_TEMPLATE, LaunchTemplateId=request.existing.id)


def _write_data(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return a version of a template in EC2's form."""
    data = {name: wanted[name] for name in _DATA if wanted.get(name) is not None}
    if "user_data" in data:
        data["user_data"] = base64.b64encode(data["user_data"].encode()).decode()
    written: dict[str, Any] = _camel(data)
    for specification in written.get("TagSpecifications", ()):
        specification["Tags"] = tag_list(specification["Tags"])
    return written


def _read_data(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the properties of a version in EC2's form. The comparison ignores properties outside of the schema."""
    read: dict[str, Any] = {name: _snake(data.get(_camel_word(name))) for name in _DATA}
    read["user_data"] = _text(data.get("UserData"))
    read["tag_specifications"] = [
        {"resource_type": item["ResourceType"], "tags": tag_map(item.get("Tags"))}
        for item in data.get("TagSpecifications") or ()
        # The template's own tags do not belong to its data, although some answers contain them.
        if item["ResourceType"] != "launch-template"
    ]
    return read


def _text(encoded: str | None) -> str | None:
    if not encoded:
        return None
    try:
        return base64.b64decode(encoded, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        # Binary data from another tool, such as compressed data, cannot be described, so it is a difference.
        return encoded


def _camel(value: Any) -> Any:
    if isinstance(value, Mapping):
        kept = {name: part for name, part in value.items() if part is not None}
        # The keys of tags are not API names.
        return {_camel_word(name): part if name == "tags" else _camel(part) for name, part in kept.items()}
    return [_camel(part) for part in value] if isinstance(value, list) else value


def _camel_word(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def _snake(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower(): _snake(part) for name, part in value.items()}
    return [_snake(part) for part in value] if isinstance(value, list) else value


def _public_key(value: str) -> str | None:
    """Return the problem of a public key, or None; the text does not contain the key."""
    if "PRIVATE KEY" in value:
        return "is a private key, which has no place here: give the public one that belongs to it"
    words = value.split()
    if len(words) < 2 or words[0] not in {"ssh-ed25519", "ssh-rsa"}:
        return "is not a public key of type ssh-ed25519 or ssh-rsa in the form of OpenSSH"
    return None


class KeyPair(AwsKind):
    """A public key for SSH on instances. The private key is never read."""

    name = "key_pair"
    service = "ec2"
    found_by = "tags"
    schema = Schema(
        {
            "name": Property(
                required=True,
                replace=True,
                check=key_pair_name_fault,
                purpose="Name, unique in the account and region.",
            ),
            "public_key": Property(
                required=True,
                replace=True,
                check=_public_key,
                # EC2 replaces the comment with the name of the pair.
                canonical=lambda key: " ".join(key.split()[:2]),
                purpose="Public key in the format of OpenSSH.",
            ),
            "tags": TAGS,
        },
        {
            "id": Output("ID that AWS assigned."),
            "fingerprint": Output("Fingerprint as computed by EC2."),
        },
        unique_by=("name",),
    )
    actions = Actions(
        read=("ec2:DescribeKeyPairs",),
        create=("ec2:ImportKeyPair", "ec2:CreateTags"),
        update=("ec2:CreateTags", "ec2:DeleteTags"),
        delete=("ec2:DeleteKeyPair",),
    )

    def read(self, id_: str) -> Actual | None:
        return next((pair for pair in self._found(KeyPairIds=[id_]) if pair.id == id_), None)

    def _found(self, **which: Any) -> list[Actual]:
        answer = self.session.look("ec2", "describe_key_pairs", _NO_KEY, IncludePublicKey=True, **which)
        return [_pair(pair) for pair in answer["KeyPairs"]] if answer else []

    def lookalikes(self, subject: Subject) -> Sequence[Actual] | Later:
        """Return the key pair with this name, which is unique."""
        name = subject.desired["name"]
        if not is_known(name):
            return LATER
        return self._found(KeyNames=[name])

    def list_owned(self, owner: Owner) -> Sequence[Actual]:
        return self._found(Filters=owned_filters(owner))

    def create(self, request: Request) -> Actual:
        name = request.desired["name"]

        def made() -> dict[str, Any] | None:
            mine = [pair for pair in self._found(KeyNames=[name]) if pair.owner == request.owner]
            return {"KeyPairId": mine[0].id} if mine else None

        answer = self.session.call_once(
            "ec2",
            "import_key_pair",
            made,
            KeyName=name,
            PublicKeyMaterial=request.desired["public_key"].encode(),
            TagSpecifications=tag_specifications("key-pair", request),
        )
        id_ = answer["KeyPairId"]
        return Actual(id_, request.desired, {"id": id_}, request.owner)

    def update(self, request: Request) -> Actual:
        write_tags(self.session, request)
        return request.existing

    def delete(self, request: Request) -> None:
        self.session.look("ec2", "delete_key_pair", _NO_KEY, KeyName=request.existing.properties["name"])


def _pair(pair: Mapping[str, Any]) -> Actual:
    id_, tags = pair["KeyPairId"], tag_map(pair.get("Tags"))
    properties = {"name": pair["KeyName"], "public_key": pair.get("PublicKey"), "tags": property_tags(tags)}
    outputs = {"id": id_, "fingerprint": pair.get("KeyFingerprint")}
    return Actual(id_, properties, outputs, owner_of(tags), READY, (pair["KeyName"],))
