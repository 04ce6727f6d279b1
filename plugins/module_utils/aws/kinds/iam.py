# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""IAM: instance profiles, identity providers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...engine.resource import READY, Actual, Owner, Request
from ...engine.schema import Output, Property, Schema
from ...engine.value import is_known
from ..iam import ABSENT, BUSY, NEW, leave_profile, owned, path_property, write_tags
from ..kind import TAGS, Actions, AwsKind, all_tags, given, owner_of, property_tags, tag_list, tag_map
from ..naming import iam_name_fault, segment_fault

_THUMBPRINT = 40


class InstanceProfile(AwsKind):
    """Instance profile, which provides a role to instances."""

    name = "instance_profile"
    service = "iam"
    schema = Schema(
        {
            "name": Property(required=True, replace=True, check=iam_name_fault, purpose="Name, unique in the account."),
            "role": Property(purpose="Name of the role."),
            "path": path_property(),
            "tags": TAGS,
        },
        {"id": Output("Name."), "arn": Output("ARN.")},
        spans_regions=True,
        unique_by=("name",),
    )
    actions = Actions(
        read=("iam:GetInstanceProfile",),
        list=("iam:ListInstanceProfiles",),
        create=("iam:CreateInstanceProfile", "iam:TagInstanceProfile", "iam:AddRoleToInstanceProfile", "iam:PassRole"),
        update=(
            "iam:AddRoleToInstanceProfile",
            "iam:PassRole",
            "iam:RemoveRoleFromInstanceProfile",
            "iam:TagInstanceProfile",
            "iam:UntagInstanceProfile",
        ),
        delete=("iam:DeleteInstanceProfile", "iam:RemoveRoleFromInstanceProfile"),
    )

    def read(self, id_: str) -> Actual | None:
        answer = self.session.look("iam", "get_instance_profile", ABSENT, InstanceProfileName=id_)
        if answer is None:
            return None
        profile = answer["InstanceProfile"]
        tags = tag_map(profile.get("Tags"))
        properties = {
            "name": id_,
            "role": next((role["RoleName"] for role in profile["Roles"]), None),
            "path": profile["Path"],
            "tags": property_tags(tags),
        }
        return Actual(id_, properties, {"id": id_, "arn": profile["Arn"]}, owner_of(tags), READY, (profile["Arn"],))

    def list_owned(self, owner: Owner) -> Sequence[Actual]:
        profiles = self.session.pages("iam", "list_instance_profiles", "InstanceProfiles")
        names = [profile["InstanceProfileName"] for profile in profiles]
        return owned(self.session, owner, names, self.read)

    def create(self, request: Request) -> Actual:
        wanted, name = request.desired, request.desired["name"]
        self.session.call_once(
            "iam",
            "create_instance_profile",
            lambda: self._made(request),
            retry_on=BUSY,
            InstanceProfileName=name,
            Path=wanted["path"],
            Tags=tag_list(all_tags(request)),
        )
        self._join(name, wanted["role"])
        return Actual(name, wanted, {"id": name}, request.owner)

    def _made(self, request: Request) -> dict[str, Any] | None:
        actual = self.read(request.desired["name"])
        return {} if actual and actual.owner == request.owner else None

    def _join(self, name: str, role: str | None) -> None:
        if role is None:
            return

        def joined() -> dict[str, Any] | None:
            actual = self.read(name)
            return {} if actual and actual.properties["role"] == role else None

        self.session.call_once(
            "iam", "add_role_to_instance_profile", joined, retry_on=NEW, InstanceProfileName=name, RoleName=role
        )

    def update(self, request: Request) -> Actual:
        name, before = request.existing.id, request.existing.properties.get("role")
        if request.changed("role"):
            if before is not None:
                leave_profile(self.session, name, before)
            self._join(name, request.desired["role"])
        write_tags(self.session, "instance_profile", "InstanceProfileName", request)
        return request.existing

    def delete(self, request: Request) -> None:
        name = request.existing.id
        actual = self.read(name)
        if actual is not None and actual.properties["role"] is not None:
            leave_profile(self.session, name, actual.properties["role"])
        retry_on = ("DeleteConflict", *BUSY)
        self.session.look("iam", "delete_instance_profile", ABSENT, retry_on=retry_on, InstanceProfileName=name)


def issuer(url: str) -> str:
    """Return the address of an identity provider in the form of IAM: without its scheme."""
    return url.removeprefix("https://").rstrip("/")


def _url_fault(value: str) -> str | None:
    if "://" in issuer(value) or not issuer(value):
        return f"{value!r} is not an address of https"
    if any(mark in issuer(value) for mark in "%?#@\\ "):
        return f"{value!r} is not an address of host and path alone"
    return segment_fault(value)


def _thumbprint_fault(value: str) -> str | None:
    fits = len(value) == _THUMBPRINT and all(digit in "0123456789abcdefABCDEF" for digit in value)
    return None if fits else f"{value!r} is not a SHA-1 digest in {_THUMBPRINT} hexadecimal digits"


class OidcProvider(AwsKind):
    """OIDC identity provider, whose tokens can be used to assume roles."""

    name = "oidc_provider"
    service = "iam"
    schema = Schema(
        {
            "url": Property(
                required=True,
                replace=lambda before, after: issuer(before) != issuer(after),
                check=_url_fault,
                canonical=issuer,
                purpose="Issuer URL of its tokens.",
            ),
            "client_id_list": Property("set", elements=Property("string"), purpose="Permitted audiences of tokens."),
            "thumbprint_list": Property(
                "set",
                elements=Property("string", check=_thumbprint_fault, canonical=str.lower),
                computed=True,
                purpose="SHA-1 digests of certificates of the provider's authority. Determined by IAM if omitted.",
            ),
            "tags": TAGS,
        },
        {"id": Output("ARN."), "arn": Output("ARN.")},
        spans_regions=True,
        unique_by=("url",),
    )
    actions = Actions(
        read=("iam:GetOpenIDConnectProvider",),
        list=("iam:ListOpenIDConnectProviders",),
        create=("iam:CreateOpenIDConnectProvider", "iam:TagOpenIDConnectProvider"),
        update=(
            "iam:AddClientIDToOpenIDConnectProvider",
            "iam:RemoveClientIDFromOpenIDConnectProvider",
            "iam:TagOpenIDConnectProvider",
            "iam:UntagOpenIDConnectProvider",
            "iam:UpdateOpenIDConnectProviderThumbprint",
        ),
        delete=("iam:DeleteOpenIDConnectProvider",),
    )

    def identify(self, desired: Mapping[str, Any]) -> str | None:
        identity = self.session.identity()
        return f"arn:{identity.partition}:iam::{identity.account_id}:oidc-provider/{issuer(desired['url'])}"

    def is_identified(self, desired: Mapping[str, Any]) -> bool:
        return is_known(desired.get("url"))

    def read(self, id_: str) -> Actual | None:
        found_ = self.session.look("iam", "get_open_id_connect_provider", ABSENT, OpenIDConnectProviderArn=id_)
        if found_ is None:
            return None
        tags = tag_map(found_.get("Tags"))
        properties = {
            "url": f"https://{issuer(found_['Url'])}",
            "client_id_list": found_.get("ClientIDList"),
            "thumbprint_list": found_.get("ThumbprintList"),
            "tags": property_tags(tags),
        }
        return Actual(id_, properties, {"id": id_, "arn": id_}, owner_of(tags))

    def list_owned(self, owner: Owner) -> Sequence[Actual]:
        providers = self.session.call("iam", "list_open_id_connect_providers")["OpenIDConnectProviderList"]
        arns = [provider["Arn"] for provider in providers]
        return owned(self.session, owner, arns, self.read)

    def create(self, request: Request) -> Actual:
        wanted = request.desired
        arn = str(self.identify(wanted))
        self.session.call_once(
            "iam",
            "create_open_id_connect_provider",
            lambda: self._made(arn, request.owner),
            # The issuer of a new cluster is not reachable from everywhere yet.
            retry_on=("OpenIdIdpCommunicationError", *BUSY),
            Url=f"https://{issuer(wanted['url'])}",
            Tags=tag_list(all_tags(request)),
            **given({"ClientIDList": wanted["client_id_list"], "ThumbprintList": wanted.get("thumbprint_list")}),
        )
        return Actual(arn, wanted, {"id": arn, "arn": arn}, request.owner)

    def _made(self, arn: str, owner: Owner) -> dict[str, Any] | None:
        actual = self.read(arn)
        return {} if actual and actual.owner == owner else None

    def update(self, request: Request) -> Actual:
        arn, wanted, actual = request.existing.id, request.desired, request.existing.properties
        before, after = set(actual["client_id_list"] or ()), set(wanted["client_id_list"] or ())
        for operation, clients in (
            ("add_client_id_to_open_id_connect_provider", after - before),
            ("remove_client_id_from_open_id_connect_provider", before - after),
        ):
            for client in sorted(clients):
                self.session.call("iam", operation, retry_on=BUSY, OpenIDConnectProviderArn=arn, ClientID=client)
        if request.changed("thumbprint_list"):
            self.session.call(
                "iam",
                "update_open_id_connect_provider_thumbprint",
                retry_on=BUSY,
                OpenIDConnectProviderArn=arn,
                ThumbprintList=wanted["thumbprint_list"] or [],
            )
        write_tags(self.session, "open_id_connect_provider", "OpenIDConnectProviderArn", request)
        return request.existing

    def delete(self, request: Request) -> None:
        arn = request.existing.id
        self.session.look("iam", "delete_open_id_connect_provider", ABSENT, OpenIDConnectProviderArn=arn)
