# SPDX-License-Identifier: GPL-3.0-or-later
"""Descriptions of services for the tests: the collection's own, small ones, and arbitrary ones from hypothesis."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.catalogue.load import load
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.catalogue.service import SUFFIXES, Catalogue
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.shared.problem import Problem

# The loader in C reads the description in a tenth of the time.
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
ROLE = Path(__file__).parents[3] / "roles" / "catalogue"
HOME, SOFTWARE = "/srv/lakehouse", "/srv/lakehouse/software/d1"
PLACES: dict[str, Any] = {"home": HOME, "software": SOFTWARE, "user": "lakehouse"}


def platform() -> dict[str, Any]:
    """Return the collection's own description."""
    text = (ROLE / "vars" / "main.yml").read_text(encoding="utf-8")
    described: dict[str, Any] = yaml.load(text, Loader=LOADER)  # noqa: S506 - both are safe
    return described


def service(**words: Any) -> dict[str, Any]:
    """Return the description of a small service."""
    return {"purpose": "Is there for a test.", "command": ["serve"], **words}


def loaded(
    services: Mapping[str, Any],
    secrets: Mapping[str, Any] | None = None,
    overrides: Any = None,
    settings: Mapping[str, Any] | None = None,
    target: str = "host",
    environment: str = "development",
) -> tuple[Catalogue, list[Problem]]:
    """Load a description; the secret `known` always exists."""
    known = {"known": {"purpose": "Opens a test."}}
    return load(services, {**known, **(secrets or {})}, target, environment, overrides, settings)


class Texts:
    """Templates and files with given texts; a template is returned with the service's name as its prefix."""

    def __init__(self, **texts: str) -> None:
        self._texts = texts

    def source(self, path: str) -> str:
        return self._texts[path]

    def template(self, path: str, variables: Mapping[str, Any]) -> str:
        return f"{variables['service']['name']}: {self._texts[path]}"


LETTERS = "abcdefghij"
LABELS = st.text(LETTERS + "-0", min_size=1, max_size=8).map(lambda text: f"s{text}s")
SECRET_NAMES = st.text(LETTERS + "_0", max_size=8).map(lambda text: f"s{text}")
PARTS = st.text(LETTERS + "_-.0", max_size=4).map(lambda text: f"f{text}")
FILE_NAMES = st.lists(PARTS, min_size=1, max_size=3).map("/".join)
VARIABLES = st.text("ABCDEFGH_0", max_size=8).map(lambda text: f"V{text}")
# All characters that a line can contain; characters with a meaning in formats are drawn often.
SPECIAL = [*"%;#'\"\\ $=,()[]{}:~\t-äλ☃", "%(here)s", "%(ENV_HOME)s", " ;", " #"]
PLAIN = st.characters(exclude_categories=["Cs"], exclude_characters="\n\r\0")
LINES = st.lists(st.sampled_from(SPECIAL) | PLAIN, max_size=8).map("".join)


def escaped(text: str) -> str:
    """Return a text in which placeholder characters are escaped."""
    return text.replace("${", "$${")


LITERALS = LINES.map(escaped)
QUANTITIES = st.builds("{}{}".format, st.integers(1, 900), st.sampled_from(sorted(SUFFIXES)))
PATHS = st.text(LETTERS, min_size=1, max_size=6).map(lambda text: f"/var/{text}")
URL_PATHS = st.text(LETTERS + "/_.-", max_size=8).map(lambda text: f"/{text}")


def _command(secrets: list[str], volumes: list[str]) -> st.SearchStrategy[list[str]]:
    references = [f"${{secret.{name}}}" for name in secrets] + [f"--at=${{volume.{name}}}" for name in volumes]
    argument = st.one_of(LITERALS, st.sampled_from(references)) if references else LITERALS
    return st.tuples(st.sampled_from(["serve", "/usr/bin/serve"]), st.lists(argument, max_size=4)).map(
        lambda pair: [pair[0], *pair[1]]
    )


def _environment(secrets: list[str]) -> st.SearchStrategy[dict[str, str]]:
    markers = [f"${{secret_value.{name}{encoding}}}" for name in secrets for encoding in ("", "|url", "|json")]
    value = st.one_of(LITERALS, st.sampled_from(markers)) if markers else LITERALS
    return st.dictionaries(VARIABLES, value, max_size=4)


@st.composite
def healths(draw: st.DrawFn, ports: list[str], secrets: list[str]) -> dict[str, Any]:
    """Draw a health check for a service with these ports and secrets."""
    kinds = ["command", "http", "tcp"] if ports else ["command"]
    health: dict[str, Any] = {"type": draw(st.sampled_from(kinds))}
    for word in ("interval_s", "timeout_s", "retries", "start_period_s"):
        health[word] = draw(st.integers(1, 300))
    if health["type"] == "command":
        return {**health, "command": draw(_command(secrets, []))}
    health["port"] = draw(st.sampled_from(ports))
    if health["type"] == "http":
        health["path"] = draw(URL_PATHS)
        health["expected_status"] = draw(st.lists(st.integers(100, 599), min_size=1, max_size=3))
        if draw(st.booleans()) and secrets:
            health["authentication"] = {"username": "someone", "secret": draw(st.sampled_from(secrets))}
    return health


@st.composite
def services(draw: st.DrawFn, numbers: list[int], names: list[str], secrets: list[str]) -> dict[str, Any]:
    """Draw a valid service: `numbers` are free ports, `names` services that it may depend on."""
    kind = draw(st.sampled_from(["service", "service", "job"]))
    ports: dict[str, Any] = {}
    if kind == "service":
        for name in draw(st.lists(LABELS, unique=True, max_size=min(3, len(numbers)))):
            page = draw(st.booleans())
            ports[name] = {
                "port": numbers.pop(),
                "protocol": draw(st.sampled_from(["tcp", "udp"])),
                "web_page": page,
                "authenticated": page or draw(st.booleans()),
            }
            ports[name]["expose"] = ports[name]["authenticated"] and draw(st.booleans())
    own = draw(st.lists(st.sampled_from(secrets), unique=True, max_size=3)) if secrets else []
    volumes = draw(
        st.dictionaries(
            LABELS, st.fixed_dictionaries({"path": PATHS, "size": QUANTITIES, "ephemeral": st.booleans()}), max_size=2
        )
    )
    described: dict[str, Any] = {
        "purpose": "Is there for a test.",
        "kind": kind,
        "command": draw(_command(own, list(volumes))),
        "ports": ports,
        "environment": draw(_environment(own)),
        "secrets": own,
        "files": draw(st.dictionaries(FILE_NAMES, LITERALS.map(lambda text: {"content": text}), max_size=3)),
        "volumes": volumes,
        "depends_on": draw(st.lists(st.sampled_from(names), unique=True, max_size=2)) if names else [],
        "stop": {
            "signal": draw(st.sampled_from(["TERM", "INT", "QUIT"])),
            "timeout_s": draw(st.integers(1, 120)),
            "group": draw(st.booleans()),
        },
        "replicas": draw(st.integers(1, 3)) if kind == "service" else 1,
    }
    if draw(st.booleans()):
        described["health"] = draw(healths(list(ports), own))
    if draw(st.booleans()) and ports:
        described["metrics"] = {"port": draw(st.sampled_from(sorted(ports))), "path": draw(URL_PATHS)}
        if draw(st.booleans()) and own:
            described["metrics"]["authentication"] = {"username": "someone", "secret": draw(st.sampled_from(own))}
    return described


@st.composite
def catalogues(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any]]:
    """Draw valid services and secrets; services depend on earlier ones only, so that there is no cycle."""
    secrets = draw(st.lists(SECRET_NAMES, unique=True, max_size=4))
    numbers = draw(st.lists(st.integers(1, 65535), unique=True, min_size=12, max_size=12))
    described: dict[str, Any] = {}
    for name in draw(st.lists(LABELS, unique=True, min_size=1, max_size=4)):
        described[name] = draw(services(numbers, list(described), secrets))
    return described, {name: {"purpose": "Opens a test."} for name in secrets}
