# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The model of a service: what it is, what it needs and how one sees that it works, for every target.

Every field is a word that a service may be described with. Renderers turn the model into host processes, containers
and Kubernetes objects; no word belongs to one of them alone.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

from ..secrets.rules import NAME, NAME_RULE, FormName, Kind
from ..shared import targets
from ..shared.nearest import replacement
from .words import Complaint, word

# A description may contain keys of `compose`, which has no renderer.
TARGETS = (*targets.TARGETS, "compose")
SUFFIXES = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_FILE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?)(k|M|G|T|Ki|Mi|Gi|Ti)?")
_CPU = re.compile(r"[0-9]+m|[0-9]+(\.[0-9]{1,3})?")
_IMAGE = re.compile(
    r"[a-z0-9][a-z0-9._:/-]*?(:(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]*))?(@sha256:(?P<digest>[0-9a-f]{64}))?"
)


def label(value: str) -> Complaint | None:
    """Complain about a name that DNS and Kubernetes would refuse (RFC 1123)."""
    if _LABEL.fullmatch(value):
        return None
    return f"{value!r} is not a usable name", "use lower case letters, digits and inner hyphens, at most 63"


def file_name(value: str) -> Complaint | None:
    """Complain about a file name that leaves its folder or takes the place of the environment file."""
    if _FILE.fullmatch(value) and value != "environment":
        return None
    return f"{value!r} is not a usable file name", "use a relative path of letters, digits, _ - and inner dots"


def variable_name(value: str) -> Complaint | None:
    """Complain about a name that an environment variable cannot have."""
    if _VARIABLE.fullmatch(value):
        return None
    return f"{value!r} is not the name of an environment variable", "use letters, digits and _, no digit first"


def secret_name(value: str) -> Complaint | None:
    """Complain about a secret's name that is not one word of lower case letters, digits and underscores."""
    if NAME.fullmatch(value):
        return None
    return f"{value!r} is not a usable secret name", f"use {NAME_RULE}"


def target_name(value: str) -> Complaint | None:
    """Complain about a name that no target has."""
    return None if value in TARGETS else (f"{value!r} is not a target", replacement(value, TARGETS))


def port_number(value: int) -> Complaint | None:
    """Complain about a number that no port has."""
    return None if 1 <= value <= 65535 else (f"{value} is not a port", "use a number from 1 to 65535")


def positive(value: int) -> Complaint | None:
    """Complain about zero and less."""
    return None if value > 0 else (f"{value} is too small", "use a number from 1")


def not_negative(value: int) -> Complaint | None:
    """Complain about less than zero."""
    return None if value >= 0 else (f"{value} is too small", "use a number from 0")


def http_status(value: int) -> Complaint | None:
    """Complain about a number that is no HTTP status."""
    return None if 100 <= value <= 599 else (f"{value} is not an HTTP status", "use a number from 100 to 599")


def quantity(value: str) -> Complaint | None:
    """Complain about an amount of memory or disk that Kubernetes would not read."""
    if _QUANTITY.fullmatch(value) and byte_count(value) >= 1:
        return None
    return f"{value!r} is not an amount of memory or disk", "write a number with Ki, Mi, Gi or Ti: 512Mi"


def cpu(value: str) -> Complaint | None:
    """Complain about a share of processors that Kubernetes would not read."""
    if _CPU.fullmatch(value) and Decimal(value.rstrip("m")) > 0:
        return None
    return f"{value!r} is not a share of processors", "write processors or thousandths: '2', '0.5' or 250m"


def pinned(value: str) -> Complaint | None:
    """Complain about an image that may be another one tomorrow."""
    match = _IMAGE.fullmatch(value)
    if match and (match["digest"] or match["tag"] not in (None, "latest")):
        return None
    return f"{value!r} does not pin an image", "name a version: registry.example.org/name:1.2.3"


def one_line(value: str) -> Complaint | None:
    """Complain about line breaks and NUL, which neither a command line nor an environment file can hold."""
    if not any(character in value for character in "\n\r\0"):
        return None
    return "it holds a line break or a NUL character", "put longer text into a file (`files`) and name its path"


def absolute_path(value: str) -> Complaint | None:
    """Complain about a path inside a container that is relative, climbs, or is the root itself."""
    if re.fullmatch(r"(/[^/\0\n:]+)+", value) and ".." not in value.split("/"):
        return None
    return f"{value!r} is not a folder of a container", "write an absolute path without .. and without a / at its end"


def url_path(value: str) -> Complaint | None:
    """Complain about a path that does not fit into a URL as it is."""
    if re.fullmatch(r"/[!-~]*", value) and "#" not in value:
        return None
    return f"{value!r} is not the path of a URL", "start it with / and encode what is not plain ASCII"


def byte_count(value: str) -> int:
    """Return the bytes of a quantity such as ``512Mi``; raise ``ValueError`` for what is none."""
    match = _QUANTITY.fullmatch(value)
    if not match:
        raise ValueError(f"{value!r} is not a quantity")
    return int(Decimal(match[1]) * SUFFIXES[match[2] or ""])


@dataclass(frozen=True)
class Credentials:
    """A user name and the name of the secret that is its password."""

    username: str = field(metadata=word("User name of HTTP basic authentication.", check=one_line))
    secret: str = field(metadata=word("Name of the secret that is the password.", check=secret_name))


@dataclass(frozen=True)
class Port:
    """A port on which a service listens."""

    port: int = field(metadata=word("Port number; on a host, the inventory's port offset is added.", check=port_number))
    protocol: Literal["tcp", "udp"] = field(default="tcp", metadata=word("`tcp` or `udp`."))
    application_protocol: str = field(
        default="http", metadata=word("Application protocol: http, grpc, postgresql, ...", check=label)
    )
    expose: bool = field(
        default=False, metadata=word("Whether the port is reachable from other machines instead of on loopback only.")
    )
    web_page: bool = field(default=False, metadata=word("Whether the port serves web pages; requires `authenticated`."))
    authenticated: bool = field(
        default=False, metadata=word("Whether the port requires authentication; required by `expose`.")
    )
    open_paths: Mapping[str, str] = field(
        default_factory=dict,
        metadata=word(
            "Paths without authentication, each with its reason: read-only health or metrics.",
            check=one_line,
            keys=url_path,
        ),
    )
    private: str | None = field(
        default=None, metadata=word("Reason why the port must not be reachable from other machines; rejects `expose`.")
    )
    internal: bool = field(
        default=False,
        metadata=word(
            "Whether only the service's own processes use the port; it is not part of the Service of a cluster."
        ),
    )
    reached_at: str | None = field(
        default=None,
        metadata=word("Endpoint as `address:port` on the targets in `managed`.", check=one_line),
    )


@dataclass(frozen=True)
class File:
    """A configuration file: a template, a text, or a file that is copied unchanged."""

    template: str | None = field(
        default=None,
        metadata=word("Jinja template below the role's `templates/`; placeholders are replaced afterwards."),
    )
    content: str | None = field(default=None, metadata=word("Content of the file, with placeholders."))
    source: str | None = field(
        default=None, metadata=word("File below the role's folder, copied without Jinja or placeholders.")
    )


@dataclass(frozen=True)
class Volume:
    """A persistent folder."""

    path: str = field(metadata=word("Mount path in a container.", check=absolute_path))
    size: str = field(default="1Gi", metadata=word("Size, e.g. 20Gi.", check=quantity))
    ephemeral: bool = field(
        default=False, metadata=word("Whether the content may be lost at a restart (sockets, scratch files).")
    )


@dataclass(frozen=True)
class Initialise:
    """A one-time step before the first start."""

    command: tuple[str, ...] = field(metadata=word("Command line.", check=one_line))
    creates: str = field(metadata=word("Path that exists after success; the step is then skipped.", check=one_line))


@dataclass(frozen=True)
class Health:
    """The health check of a service."""

    type: Literal["http", "tcp", "command"] = field(metadata=word("`http`, `tcp` or `command`."))
    port: str | None = field(default=None, metadata=word("Name of the port to check (http, tcp).", check=label))
    path: str = field(default="/", metadata=word("Path of the request (http).", check=url_path))
    live_path: str | None = field(
        default=None,
        metadata=word("Path that checks only the process: its failure restarts the service (http).", check=url_path),
    )
    command: tuple[str, ...] = field(
        default_factory=tuple,
        metadata=word("Command that exits with 0 when the service is healthy (command).", check=one_line),
    )
    interval_s: int = field(default=10, metadata=word("Interval between two checks in seconds.", check=positive))
    timeout_s: int = field(default=5, metadata=word("Timeout of a check in seconds.", check=positive))
    retries: int = field(
        default=3, metadata=word("Consecutive failures after which a service is unhealthy.", check=positive)
    )
    start_period_s: int = field(
        default=60, metadata=word("Maximum duration of a start in seconds.", check=not_negative)
    )
    expected_status: tuple[int, ...] = field(
        default=(200,), metadata=word("Expected HTTP statuses (http).", check=http_status)
    )
    authentication: Credentials | None = field(default=None, metadata=word("Credentials of the check (http)."))


@dataclass(frozen=True)
class Metrics:
    """Metrics endpoint for Prometheus."""

    port: str = field(metadata=word("Name of the port.", check=label))
    path: str = field(default="/metrics", metadata=word("Path of the metrics.", check=url_path))
    authentication: Credentials | None = field(default=None, metadata=word("Credentials of the scrape."))


@dataclass(frozen=True)
class Amounts:
    """CPU and memory."""

    cpu: str | None = field(default=None, metadata=word("CPUs, or thousandths of one: '2', 250m.", check=cpu))
    memory: str | None = field(default=None, metadata=word("Memory, e.g. 512Mi.", check=quantity))


@dataclass(frozen=True)
class Resources:
    """The reserved and the maximum resources of a service."""

    requests: Amounts = field(default_factory=Amounts, metadata=word("Reserved resources."))
    limits: Amounts = field(default_factory=Amounts, metadata=word("Maximum resources."))


@dataclass(frozen=True)
class Stop:
    """The shutdown of a service."""

    signal: Literal["TERM", "INT", "QUIT", "HUP", "USR1", "USR2"] = field(
        default="TERM", metadata=word("Signal that stops the service.")
    )
    timeout_s: int = field(
        default=30, metadata=word("Timeout in seconds, after which the service is killed.", check=positive)
    )
    group: bool = field(
        default=True,
        metadata=word("Whether a host sends the signal to child processes as well; a container does not."),
    )


@dataclass(frozen=True)
class Operator:
    """An operator of the cluster, which runs a service with its own replicas, failover and backups."""

    name: Literal["cloudnative-pg"] = field(metadata=word("`cloudnative-pg`, for PostgreSQL."))
    image: str = field(metadata=word("Image that the operator runs, with a version.", check=pinned))
    instances: int = field(default=3, metadata=word("Number of instances.", check=positive))


@dataclass(frozen=True)
class Scale:
    """The bounds of the number of replicas."""

    min: int = field(metadata=word("Minimum number of replicas.", check=positive))
    max: int = field(metadata=word("Maximum number of replicas.", check=positive))


@dataclass(frozen=True)
class Service:
    """One service or job, complete for one target and one environment."""

    name: str
    purpose: str = field(metadata=word("Purpose of the service, one sentence.", check=one_line))
    kind: Literal["service", "job"] = field(
        default="service", metadata=word("`service` runs permanently, `job` runs to completion.")
    )
    image: str | None = field(default=None, metadata=word("Container image with a version.", check=pinned))
    user: int = field(default=10001, metadata=word("User id of a container; not root.", check=positive))
    command: tuple[str, ...] = field(
        default_factory=tuple,
        metadata=word(
            "Command line; a program name without a folder is a program of the platform's software.", check=one_line
        ),
    )
    arguments: tuple[str, ...] = field(
        default_factory=tuple,
        metadata=word("Arguments that are appended to `command`, for overlays.", check=one_line),
    )
    directory: str | None = field(default=None, metadata=word("Working folder.", check=one_line))
    initialise: Initialise | None = field(default=None, metadata=word("One-time step before the first start."))
    ports: Mapping[str, Port] = field(default_factory=dict, metadata=word("Ports of the service, by name.", keys=label))
    ephemeral_ports: str | None = field(
        default=None,
        metadata=word(
            "Reason for loopback ports that the kernel assigns, and the authentication of their callers.",
            check=one_line,
        ),
    )
    environment: Mapping[str, str] = field(
        default_factory=dict, metadata=word("Environment variables.", check=one_line, keys=variable_name)
    )
    secrets: tuple[str, ...] = field(
        default_factory=tuple,
        metadata=word(
            "Names of the secrets that the service may read; other references are rejected.", check=secret_name
        ),
    )
    files: Mapping[str, File] = field(
        default_factory=dict, metadata=word("Configuration files, by name.", keys=file_name)
    )
    sockets: tuple[str, ...] = field(
        default_factory=tuple,
        metadata=word(
            "Longest paths of Unix sockets; a host rejects a folder in which they are too long.", check=one_line
        ),
    )
    volumes: Mapping[str, Volume] = field(
        default_factory=dict, metadata=word("Persistent folders, by name.", keys=label)
    )
    health: Health | None = field(default=None, metadata=word("Health check."))
    depends_on: tuple[str, ...] = field(
        default_factory=tuple,
        metadata=word("Services that must be healthy, and jobs that must be complete, before the start.", check=label),
    )
    calls: tuple[str, ...] = field(
        default_factory=tuple,
        metadata=word(
            "Called services whose ports no placeholder names; the service itself if its replicas call each other.",
            check=label,
        ),
    )
    resources: Resources = field(default_factory=Resources, metadata=word("CPU and memory."))
    replicas: int = field(default=1, metadata=word("Number of replicas; a host runs one.", check=positive))
    scale: Scale | None = field(
        default=None,
        metadata=word("Bounds of manual scaling, for a service whose replicas can run concurrently; fixed by default."),
    )
    login: str | None = field(
        default=None,
        metadata=word(
            "Secret with the password that an ingress requires, for a service with pages without authentication.",
            check=secret_name,
        ),
    )
    metrics: Metrics | None = field(default=None, metadata=word("Metrics endpoint for Prometheus."))
    scrapes: bool = field(
        default=False,
        metadata=word("Whether the service scrapes the metrics of all services, and may read the required secrets."),
    )
    outbound_ports: tuple[int, ...] = field(
        default_factory=tuple,
        metadata=word("Called ports outside of the platform; a cluster denies all others.", check=port_number),
    )
    service_account: str | None = field(
        default=None,
        metadata=word(
            "ServiceAccount of a cluster, with the cloud permissions of that name; the service's name by default.",
            check=label,
        ),
    )
    on_demand: bool = field(
        default=False, metadata=word("Whether a job runs only on request, instead of after each change.")
    )
    incomplete: str | None = field(
        default=None,
        metadata=word(
            "Path of a JSON document of a job that exists while its work is incomplete; a health check reports it.",
            check=one_line,
        ),
    )
    writes: bool = field(
        default=False, metadata=word("Whether the service changes tables or raw objects; a restore stops it.")
    )
    provided_by: str | None = field(
        default=None, metadata=word("Service whose process provides this one, instead of a command.", check=label)
    )
    managed: Mapping[str, str] = field(
        default_factory=dict,
        metadata=word("Targets with a managed cloud service instead, with its name.", keys=target_name),
    )
    operated_by: Mapping[str, Operator] = field(
        default_factory=dict,
        metadata=word("Targets with a cluster operator that runs the service, and that operator.", keys=target_name),
    )
    only_on: tuple[str, ...] = field(
        default_factory=tuple, metadata=word("Targets of the service; all targets by default.", check=target_name)
    )
    stop: Stop = field(default_factory=Stop, metadata=word("Shutdown of the service."))
    enabled: bool = field(default=True, metadata=word("Whether the service is deployed."))


@dataclass(frozen=True)
class Secret:
    """A secret's description; its value is never part of the catalogue."""

    name: str
    purpose: str = field(default="", metadata=word("Purpose of the secret, one sentence.", check=one_line))
    kind: Kind = field(
        default="password",
        metadata=word(
            "`bcrypt`, `authority` and `certificate` are derived, `given` is set by the user, others are generated."
        ),
    )
    length: int | None = field(
        default=None, metadata=word("Length of a generated value in characters; the default depends on the kind.")
    )
    of: str | None = field(
        default=None,
        metadata=word(
            "Secret that a `bcrypt` is derived from; private key of an `authority` or a `certificate`.",
            check=secret_name,
        ),
    )
    issuer: str | None = field(
        default=None, metadata=word("Secret of kind `authority` that signs a `certificate`.", check=secret_name)
    )
    common_name: str | None = field(
        default=None, metadata=word("Common name of an `authority` or a `certificate`.", check=one_line)
    )
    form: FormName | None = field(
        default=None, metadata=word("Format of a `given` secret: `text` or `http_url`; `text` by default.")
    )
    optional: bool = field(default=False, metadata=word("Whether a `given` secret may be missing."))


INVENTORY = "lakehouse_services"
"""The variable in which users add services and override keys."""


@dataclass(frozen=True)
class Catalogue:
    """Everything that is described, for one target and environment.

    `paths` says in which variable a service is found, `broken` are services that could not be read; the latter are
    reported already, so that what refers to them is left alone.
    """

    target: str
    environment: str
    services: Mapping[str, Service]
    secrets: Mapping[str, Secret]
    settings: Mapping[str, str]
    paths: Mapping[str, str] = field(default_factory=dict)
    broken: frozenset[str] = frozenset()

    def live(self) -> Iterator[Service]:
        """Yield the services that are switched on, in the order of their names."""
        return (self.services[name] for name in sorted(self.services) if self.services[name].enabled)

    def path_to_change(self, names: Iterable[str]) -> str:
        """Return where the user changes the first of these services that the inventory has a say in, else the first."""
        paths = [self.paths[name] for name in names]
        return next((path for path in paths if path.startswith(INVENTORY)), paths[0])


def plain(value: Any) -> Any:
    """Return a model object as plain JSON types."""
    if dataclasses.is_dataclass(value):
        return {word.name: plain(getattr(value, word.name)) for word in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(entry) for key, entry in value.items()}
    return [plain(entry) for entry in value] if isinstance(value, tuple) else value
