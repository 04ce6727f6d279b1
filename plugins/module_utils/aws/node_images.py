# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Releases of EKS node images: the newest release that AWS publishes, and the comparison of two releases."""

from __future__ import annotations

import re

from ..engine.errors import EngineError
from .errors import CallError
from .session import Session

# Public parameters of AWS Systems Manager, by `ami_type`.
# Sources: "Retrieve recommended Amazon Linux AMI IDs" and "Retrieve recommended Bottlerocket AMI IDs" of EKS.
_AMAZON_LINUX = "/aws/service/eks/optimized-ami/{version}/%s/recommended/release_version"
_BOTTLEROCKET = "/aws/service/bottlerocket/aws-k8s-{version}%s/latest/image_version"
_PARAMETERS = {
    "AL2023_x86_64_STANDARD": _AMAZON_LINUX % "amazon-linux-2023/x86_64/standard",
    "AL2023_ARM_64_STANDARD": _AMAZON_LINUX % "amazon-linux-2023/arm64/standard",
    "AL2023_x86_64_NEURON": _AMAZON_LINUX % "amazon-linux-2023/x86_64/neuron",
    "AL2023_x86_64_NVIDIA": _AMAZON_LINUX % "amazon-linux-2023/x86_64/nvidia",
    "AL2023_ARM_64_NVIDIA": _AMAZON_LINUX % "amazon-linux-2023/arm64/nvidia",
    "BOTTLEROCKET_x86_64": _BOTTLEROCKET % "/x86_64",
    "BOTTLEROCKET_ARM_64": _BOTTLEROCKET % "/arm64",
    "BOTTLEROCKET_x86_64_NVIDIA": _BOTTLEROCKET % "-nvidia/x86_64",
    "BOTTLEROCKET_ARM_64_NVIDIA": _BOTTLEROCKET % "-nvidia/arm64",
}
PUBLISHED = tuple(_PARAMETERS)
# Releases of Amazon Linux; those of Bottlerocket end with a commit, which has no order.
_RELEASE = re.compile(r"(?P<version>\d+\.\d+)\.\d+-(?P<date>\d{8})")


def newest_release(session: Session, ami_type: str, version: str) -> str:
    """Return the newest release of an image for a Kubernetes version. Raises EngineError where none exists."""
    return session.once(f"eks image {ami_type} {version}", lambda: _newest(session, ami_type, version))


def _newest(session: Session, ami_type: str, version: str) -> str:
    name = _PARAMETERS[ami_type].format(version=version)
    try:
        return str(session.call("ssm", "get_parameter", Name=name)["Parameter"]["Value"])
    except CallError as error:
        if not error.is_one_of(("ParameterNotFound",)):
            raise
        message = f"cannot find the newest image {ami_type} for Kubernetes {version}: there is no parameter {name}"
        raise EngineError(f"{message}; name a release instead of the newest one") from None


def is_older(release: str, other: str) -> bool:
    """Return whether a release is older than another one of the same version; False for unknown formats."""
    one, two = _RELEASE.fullmatch(release), _RELEASE.fullmatch(other)
    return bool(one and two and one["version"] == two["version"] and one["date"] < two["date"])


def version_of(release: str) -> str | None:
    """Return the Kubernetes version of a release, or None where it does not contain one."""
    found = _RELEASE.fullmatch(release)
    return found["version"] if found else None
