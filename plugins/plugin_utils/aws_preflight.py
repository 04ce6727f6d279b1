# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What would stop a run on AWS, as far as the controller can tell before the first change."""

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

# The secrets of the foundation; those of the services are the catalogue's. The database's is that of the services too.
SECRETS = (
    SecretSpec("api_keys", "given", optional=True),
    SecretSpec("database_password", "password"),
    SecretSpec("encryption_keys", "given", optional=True),
)
# What makes a foundation for services, which are looked at when it is there: that takes a quarter of an hour.
MAKING_VERBS = frozenset({"deploy", "upgrade"})
# What the roles of the services use of other collections.
COLLECTIONS = ("kubernetes.core",)
# Where botocore looks beside the shared configuration.
_CREDENTIALS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
# Every other verb asks the cluster before it changes anything.
_CHANGES_AWS = "deploy"
_PROGRAM_TIMEOUT_S = 30.0
_ENDPOINT = "AWS_ENDPOINT_URL"
_ZONES = "lakehouse_aws_zones"
# As playbooks/tasks/aws.yml names it.
STACK_NAME = "crypto-lakehouse"
_VENDOR = Path("/sys/class/dmi/id/sys_vendor")


def problems(settings: Mapping[str, Any], environment: Mapping[str, str]) -> list[Problem]:
    """List what this machine lacks to call AWS."""
    profiles = shared_profiles(environment)
    return [
        *profile_problems(settings, profiles),
        *region_problems(settings, environment, profiles),
        *credential_problems(settings, environment, profiles, on_ec2=_is_on_ec2()),
        *session_problems(settings, environment, profiles, dt.datetime.now(dt.UTC)),
        *role_problems(settings),
    ]


def database_problems(verb: str, settings: Mapping[str, Any]) -> list[Problem]:
    """Refuse to make a database whose certificate the services could not verify."""
    name = "lakehouse_database_ca_bundle"
    if verb not in MAKING_VERBS or not settings["lakehouse_aws_database"] or settings[name]:
        return []
    message = "nothing says who signs the certificate of the database on RDS"
    return [Problem(name, message, DATABASE_CA_REMEDY)]


def shared_profiles(environment: Mapping[str, str]) -> Profiles:
    """Return the profiles of the shared configuration with what each says. An unreadable file says nothing."""
    home = _home(environment) / ".aws"
    found: dict[str, dict[str, str]] = {}
    for variable, name in (("AWS_CONFIG_FILE", "config"), ("AWS_SHARED_CREDENTIALS_FILE", "credentials")):
        parser = configparser.RawConfigParser(strict=False)
        try:
            parser.read(Path(environment.get(variable) or home / name).expanduser(), encoding="utf-8")
        except (configparser.Error, OSError, UnicodeDecodeError):
            continue
        for section in parser.sections():
            # What else such a file may hold has a word before its name: sessions of SSO, addresses of services.
            if section.startswith(("sso-session ", "services ")):
                continue
            found.setdefault(section.removeprefix("profile ").strip(), {}).update(parser.items(section))
    return found


def _home(environment: Mapping[str, str]) -> Path:
    return Path(environment.get("HOME") or Path.home())


def _profile(settings: Mapping[str, Any], environment: Mapping[str, str]) -> str:
    return str(settings["lakehouse_aws_profile"] or environment.get("AWS_PROFILE") or "default")


def profile_problems(settings: Mapping[str, Any], profiles: Profiles) -> list[Problem]:
    """Refuse a profile that the shared configuration does not have."""
    name = settings["lakehouse_aws_profile"]
    if not name or name in profiles:
        return []
    remedy = (
        f"name one of: {', '.join(sorted(profiles))}" if profiles else "make it with aws configure, or leave it out"
    )
    return [Problem("lakehouse_aws_profile", f"the AWS configuration has no profile {name!r}", remedy)]


def region_problems(settings: Mapping[str, Any], environment: Mapping[str, str], profiles: Profiles) -> list[Problem]:
    """Ask for a region where nothing names one."""
    profile = profiles.get(_profile(settings, environment), {})
    if settings["lakehouse_aws_region"] or environment.get("AWS_DEFAULT_REGION") or profile.get("region"):
        return []
    return [Problem("lakehouse_aws_region", "no region is named", "set lakehouse_aws_region, e.g. eu-central-1")]


def credential_problems(
    settings: Mapping[str, Any], environment: Mapping[str, str], profiles: Profiles, *, on_ec2: bool
) -> list[Problem]:
    """Ask for credentials where no source of them is in sight; an instance has those of its own role."""
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
    """Ask for a login where the profile takes its credentials from SSO; those of the environment come before it."""
    if not settings["lakehouse_aws_profile"] and environment.get("AWS_ACCESS_KEY_ID"):
        return []
    return login_problems(_profile(settings, environment), profiles, _home(environment), now)


def role_problems(settings: Mapping[str, Any]) -> list[Problem]:
    """Refuse what is said of a role that is not assumed."""
    names = ("lakehouse_aws_external_id", "lakehouse_aws_session_name")
    if settings["lakehouse_aws_assume_role_arn"]:
        return []
    message = "is set but `lakehouse_aws_assume_role_arn` is not"
    return [Problem(name, message, f"set the role, or remove {name}") for name in names if settings[name]]


def node_problems(settings: Mapping[str, Any]) -> list[Problem]:
    """Refuse to begin with more nodes than there may be."""
    count, most = settings["lakehouse_node_count"], settings["lakehouse_node_max"]
    if count <= most:
        return []
    message = f"{count} is more than lakehouse_node_max, {most}"
    return [Problem("lakehouse_node_count", message, f"set lakehouse_node_max to {count} or more")]


def secret_problems(settings: Mapping[str, Any], known: Descriptions) -> list[Problem]:
    """List everything that is wrong with the secrets of the foundation and of the services.

    known: the descriptions of the platform's own secrets. The services themselves are rendered a quarter of an hour
    later, when there is a cluster.
    """
    secrets: list[Description] = [*SECRETS, *described_secrets(known, settings["lakehouse_services"])]
    return judged(value_problems(secrets, settings["lakehouse_secrets"], allow_empty=False))


def reach_problems(
    verb: str,
    settings: Mapping[str, Any],
    environment: Mapping[str, str],
    source_of: Callable[[str], str | None] | None = None,
) -> list[Problem]:
    """Refuse to deploy services onto a cluster whose Kubernetes API cannot be reached from here: AWS would be changed
    before that is noticed. Of the networks of an emulator nothing is known."""
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
    """Say what will be needed to reach a private Kubernetes API from here."""
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
    """Return whether nothing known leads from this controller to a private Kubernetes API."""
    if settings["lakehouse_eks_public_access_cidrs"] or settings["lakehouse_kubeconfig"]:
        return False
    if any(name.lower() == "https_proxy" for name in settings["lakehouse_proxy_env"]):
        return False
    vpc = ipaddress.IPv4Network(settings["lakehouse_aws_vpc_cidr"])
    own = source_of(str(vpc[2]))
    inside = (vpc, *map(ipaddress.IPv4Network, settings["lakehouse_aws_private_access_cidrs"]))
    return own is None or not any(ipaddress.IPv4Address(own) in network for network in inside)


def program_problems(verb: str, settings: Mapping[str, Any], run: Run | None = None) -> list[Problem]:
    """List what this controller lacks to deploy services onto a cluster."""
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
    """List what AWS itself has against the run: credentials, account, region, availability zones. Changes nothing.

    A run without other problems learns all of it from its first calls, before its first change.
    refused: variables with a problem of their own, whose value is not the one of the inventory.
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
    """Return the availability zones of the subnets that exist. They stay, whatever AWS lists later."""
    own = Owner(STACK_NAME, settings["lakehouse_environment"], "")
    try:
        return {subnet["AvailabilityZone"] for subnet in SUBNETS.owned(session, own)}
    except CallError:
        return set()


def zone_problems(settings: Mapping[str, Any], region: str, known: Sequence[str]) -> list[Problem]:
    """Refuse more availability zones than a region has, and names that it does not have."""
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
    """Return the own address from which a packet to `destination` would leave; none is sent."""
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
