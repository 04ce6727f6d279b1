# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find problems that would stop a run on AWS, from the controller and before the first change."""

from __future__ import annotations

import configparser
import datetime as dt
import importlib.util
import ipaddress
import socket
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..module_utils.aws.ec2 import SUBNETS
from ..module_utils.aws.errors import CallError
from ..module_utils.aws.session import Session
from ..module_utils.aws.zones import supported
from ..module_utils.catalogue.kubernetes.layout import DATABASE_CA_REMEDY
from ..module_utils.engine.resource import Owner
from ..module_utils.helm.program import Run, helm_problems
from ..module_utils.secrets.rules import Description, value_problems
from ..module_utils.secrets.values import SecretSpec
from ..module_utils.shared.commands import run_command
from ..module_utils.shared.nearest import suggestion
from ..module_utils.shared.problem import Problem
from .aws_sso import Profiles, login_problems
from .secret_preflight import Descriptions, described_secrets, judged

# Secrets of the foundation; the catalogue describes those of the services. Services also use the database's secret.
SECRETS = (
    SecretSpec("api_keys", "given", optional=True),
    SecretSpec("database_password", "password"),
    SecretSpec("encryption_keys", "given", optional=True),
)
# Verbs that create the foundation of services, which takes 15 minutes. Services are checked after that.
MAKING_VERBS = frozenset({"deploy", "upgrade"})
# Other collections that the roles of the services use.
COLLECTIONS = ("kubernetes.core",)
# Sources of botocore's credentials besides the shared configuration.
_CREDENTIALS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
# All other verbs check the cluster before the first change.
_CHANGES_AWS = "deploy"
_PROGRAM_TIMEOUT_S = 30.0
_ENDPOINT = "AWS_ENDPOINT_URL"
_ZONES = "lakehouse_aws_zones"
# Name of the stack in playbooks/tasks/aws.yml.
STACK_NAME = "crypto-lakehouse"
_VENDOR = Path("/sys/class/dmi/id/sys_vendor")


def problems(settings: Mapping[str, Any], environment: Mapping[str, str]) -> list[Problem]:
    """Return problems of this machine with calls to AWS."""
    profiles = shared_profiles(environment)
    return [
        *profile_problems(settings, profiles),
        *region_problems(settings, environment, profiles),
        *credential_problems(settings, environment, profiles, on_ec2=_is_on_ec2()),
        *session_problems(settings, environment, profiles, dt.datetime.now(dt.UTC)),
        *role_problems(settings),
    ]


def database_problems(verb: str, settings: Mapping[str, Any]) -> list[Problem]:
    """Reject a database whose certificate the services could not verify."""
    name = "lakehouse_database_ca_bundle"
    if verb not in MAKING_VERBS or not settings["lakehouse_aws_database"] or settings[name]:
        return []
    message = "nothing says who signs the certificate of the database on RDS"
    return [Problem(name, message, DATABASE_CA_REMEDY)]


def shared_profiles(environment: Mapping[str, str]) -> Profiles:
    """Return the profiles of the shared configuration with their settings. An unreadable file has no profiles."""
    home = _home(environment) / ".aws"
    found: dict[str, dict[str, str]] = {}
    for variable, name in (("AWS_CONFIG_FILE", "config"), ("AWS_SHARED_CREDENTIALS_FILE", "credentials")):
        parser = configparser.RawConfigParser(strict=False)
        try:
            parser.read(Path(environment.get(variable) or home / name).expanduser(), encoding="utf-8")
        except (configparser.Error, OSError, UnicodeDecodeError):
            continue
        for section in parser.sections():
            # Other sections have a prefix in their name: SSO sessions and service endpoints.
            if section.startswith(("sso-session ", "services ")):
                continue
            found.setdefault(section.removeprefix("profile ").strip(), {}).update(parser.items(section))
    return found


def _home(environment: Mapping[str, str]) -> Path:
    return Path(environment.get("HOME") or Path.home())


def _profile(settings: Mapping[str, Any], environment: Mapping[str, str]) -> str:
    return str(settings["lakehouse_aws_profile"] or environment.get("AWS_PROFILE") or "default")


def profile_problems(settings: Mapping[str, Any], profiles: Profiles) -> list[Problem]:
    """Reject a profile that is missing in the shared configuration."""
    name = settings["lakehouse_aws_profile"]
    if not name or name in profiles:
        return []
    remedy = (
        f"name one of: {', '.join(sorted(profiles))}" if profiles else "make it with aws configure, or leave it out"
    )
    return [Problem("lakehouse_aws_profile", f"the AWS configuration has no profile {name!r}", remedy)]


def region_problems(settings: Mapping[str, Any], environment: Mapping[str, str], profiles: Profiles) -> list[Problem]:
    """Return the problem of a missing region."""
    profile = profiles.get(_profile(settings, environment), {})
    if settings["lakehouse_aws_region"] or environment.get("AWS_DEFAULT_REGION") or profile.get("region"):
        return []
    return [Problem("lakehouse_aws_region", "no region is named", "set lakehouse_aws_region, e.g. eu-central-1")]


def credential_problems(
    settings: Mapping[str, Any], environment: Mapping[str, str], profiles: Profiles, *, on_ec2: bool
) -> list[Problem]:
    """Return the problem of missing credentials; an instance uses those of its own role."""
    if on_ec2 or settings["lakehouse_aws_profile"] or any(environment.get(name) for name in _CREDENTIALS):
        return []
    if set(profiles.get(_profile(settings, environment), {})) - {"region", "output"}:
        return []
    message = "there are no AWS credentials: no profile, none in the environment, and this is no EC2 instance"
    remedy = "name a profile in lakehouse_aws_profile, or export AWS_PROFILE or AWS_ACCESS_KEY_ID with its secret"
    return [Problem("lakehouse_aws_profile", message, remedy)]


def session_problems(
    settings: Mapping[str, Any], environment: Mapping[str, str], profiles: Profiles, now: dt.datetime
) -> list[Problem]:
    """Return the problem of a missing login for a profile with SSO; credentials of the environment take precedence."""
    if not settings["lakehouse_aws_profile"] and environment.get("AWS_ACCESS_KEY_ID"):
        return []
    return login_problems(_profile(settings, environment), profiles, _home(environment), now)


def role_problems(settings: Mapping[str, Any]) -> list[Problem]:
    """Reject settings of a role that is not assumed."""
    names = ("lakehouse_aws_external_id", "lakehouse_aws_session_name")
    if settings["lakehouse_aws_assume_role_arn"]:
        return []
    message = "is set but `lakehouse_aws_assume_role_arn` is not"
    return [Problem(name, message, f"set the role, or remove {name}") for name in names if settings[name]]


def node_problems(settings: Mapping[str, Any]) -> list[Problem]:
    """Reject an initial number of nodes above the maximum."""
    count, most = settings["lakehouse_node_count"], settings["lakehouse_node_max"]
    if count <= most:
        return []
    message = f"{count} is more than lakehouse_node_max, {most}"
    return [Problem("lakehouse_node_count", message, f"set lakehouse_node_max to {count} or more")]


def secret_problems(settings: Mapping[str, Any], known: Descriptions) -> list[Problem]:
    """Return problems of the secrets of the foundation and of the services.

    known: the descriptions of the platform's own secrets. The services are only rendered 15 minutes later, when the
    cluster exists.
    """
    secrets: list[Description] = [*SECRETS, *described_secrets(known, settings["lakehouse_services"])]
    return judged(value_problems(secrets, settings["lakehouse_secrets"], allow_empty=False))


def reach_problems(
    verb: str,
    settings: Mapping[str, Any],
    environment: Mapping[str, str],
    source_of: Callable[[str], str | None] | None = None,
) -> list[Problem]:
    """Reject the deployment of services if the controller cannot reach the cluster's Kubernetes API.

    Without this check, the failure would follow the changes in AWS. Networks of an emulator are not checked.
    """
    is_emulated = settings["lakehouse_aws_endpoint_url"] or any(name.startswith(_ENDPOINT) for name in environment)
    if is_emulated or verb != _CHANGES_AWS or not _is_cut_off(settings, source_of or source_address):
        return []
    network = settings["lakehouse_aws_vpc_cidr"]
    message = f"the Kubernetes API of the cluster is private, and this controller is not inside of its VPC ({network})"
    remedy = (
        "name this controller's public address in lakehouse_eks_public_access_cidrs; or run the playbooks on a machine"
        " in the VPC; or connect by VPN or peering and name its network in lakehouse_aws_private_access_cidrs;"
        " or deploy foundation and cluster alone with -t aws"
    )
    return [Problem("lakehouse_eks_public_access_cidrs", message, remedy)]


def hints(verb: str, settings: Mapping[str, Any], source_of: Callable[[str], str | None] | None = None) -> list[str]:
    """Return hints on connecting to a private Kubernetes API from the controller."""
    if verb not in {"deploy", "plan"} or not _is_cut_off(settings, source_of or source_address):
        return []
    advice = (
        "The Kubernetes API of the cluster is private, and this controller is not inside of its VPC"
        f" ({settings['lakehouse_aws_vpc_cidr']}). AWS itself is reached all the same. To reach the cluster as well:"
        " run the playbooks on a machine in the VPC; or connect by VPN or peering and name its network in"
        " lakehouse_aws_private_access_cidrs; or name this controller's public address in"
        " lakehouse_eks_public_access_cidrs."
    )
    return [advice]


def _is_cut_off(settings: Mapping[str, Any], source_of: Callable[[str], str | None]) -> bool:
    """Return whether this controller has no known route to a private Kubernetes API."""
    if settings["lakehouse_eks_public_access_cidrs"] or settings["lakehouse_kubeconfig"]:
        return False
    if any(name.lower() == "https_proxy" for name in settings["lakehouse_proxy_env"]):
        return False
    vpc = ipaddress.IPv4Network(settings["lakehouse_aws_vpc_cidr"])
    own = source_of(str(vpc[2]))
    inside = (vpc, *map(ipaddress.IPv4Network, settings["lakehouse_aws_private_access_cidrs"]))
    return own is None or not any(ipaddress.IPv4Address(own) in network for network in inside)


def program_problems(verb: str, settings: Mapping[str, Any], run: Run | None = None) -> list[Problem]:
    """Return missing programs and collections of this controller for the deployment of services to a cluster."""
    if verb != _CHANGES_AWS:
        return []
    missing = [name for name in COLLECTIONS if not _has_collection(name)]
    problems = [
        Problem(
            "ansible_playbook_python", f"the collection {name} is missing", f"ansible-galaxy collection install {name}"
        )
        for name in missing
    ]
    return [*problems, *helm_problems(run or _run, settings["lakehouse_helm_binary"])[1]]


def _has_collection(name: str) -> bool:
    try:
        return importlib.util.find_spec(f"ansible_collections.{name}") is not None
    except ModuleNotFoundError:
        return False


def _run(command: Sequence[str]) -> tuple[int, str, str]:
    try:
        ended = run_command(command, _PROGRAM_TIMEOUT_S)
    except (OSError, TimeoutError) as error:
        return 1, "", str(error)
    return ended.status, ended.output, ""


def account_problems(
    settings: Mapping[str, Any], session: Session, refused: Collection[str] = frozenset()
) -> list[Problem]:
    """Return problems of credentials, account, region and availability zones that AWS reports. Changes nothing.

    A run without other problems finds these with its first calls, before its first change.
    refused: variables with their own problem, whose value is not that of the inventory.
    """
    try:
        identity = session.identity()
    except CallError as error:
        place = "lakehouse_aws_region" if error.is_unsent or error.is_nowhere else "lakehouse_aws_profile"
        return [Problem(place, error.cause, error.remedy or "check the credentials, the region and the network")]
    wanted, problems = settings["lakehouse_aws_account_id"], []
    if wanted and wanted != identity.account_id:
        message = f"the credentials are those of account {identity.account_id} ({identity.arn}), not of {wanted}"
        problems.append(Problem("lakehouse_aws_account_id", message, "use other credentials, or correct it"))
    try:
        known = session.zones()
    except CallError as error:
        remedy = error.remedy or "enable the region for the account, or use another one"
        return [*problems, Problem("lakehouse_aws_region", error.cause, remedy)]
    if _ZONES in refused:
        return problems
    usable = sorted({*supported(known), *_zones_in_use(settings, session)})
    return [*problems, *zone_problems(settings, session.region, usable)]


def _zones_in_use(settings: Mapping[str, Any], session: Session) -> set[str]:
    """Return the availability zones of existing subnets. They are kept even if AWS no longer lists them."""
    own = Owner(STACK_NAME, settings["lakehouse_environment"], "")
    try:
        return {subnet["AvailabilityZone"] for subnet in SUBNETS.owned(session, own)}
    except CallError:
        return set()


def zone_problems(settings: Mapping[str, Any], region: str, known: Sequence[str]) -> list[Problem]:
    """Reject unknown availability zones, and more zones than the region has."""
    wanted = settings[_ZONES]
    if isinstance(wanted, int) and wanted > len(known):
        count = "1 availability zone" if len(known) == 1 else f"{len(known)} availability zones"
        message = f"{region} has {count} that EKS supports, not {wanted}"
        remedy = f"set it to {len(known)}, or use another region" if len(known) > 1 else "use another region"
        return [Problem(_ZONES, message, remedy)]
    missing = [zone for zone in wanted if zone not in known] if isinstance(wanted, list) else []
    return [
        Problem(_ZONES, f"{region} has no zone {zone!r} that EKS supports", suggestion(zone, known)) for zone in missing
    ]


def source_address(destination: str) -> str | None:
    """Return the local source address of packets to `destination`, without sending one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((destination, 53))
        except OSError:
            return None
        return str(probe.getsockname()[0])


def _is_on_ec2() -> bool:
    try:
        return _VENDOR.read_text(encoding="utf-8").strip() == "Amazon EC2"
    except OSError:
        return False
