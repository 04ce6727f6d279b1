# SPDX-License-Identifier: GPL-3.0-or-later
"""Flags, configuration files and environment variables of the commands; flags.yml lists them."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from tests.k3s.standin.common import FatalError, log

CONFIG_FILE = "/etc/rancher/k3s/config.yaml"
KNOWN = yaml.safe_load(Path(__file__).with_name("flags.yml").read_text(encoding="utf-8"))


@dataclass
class Settings:
    """Values of the flags of one command, its arguments, and the flags that K3s records at the node."""

    command: str
    values: dict[str, list[str]]
    words: list[str] = field(default_factory=list)
    recorded: list[str] = field(default_factory=list)

    def text(self, name: str) -> str:
        """Return the last value of a flag, its default, or an empty text."""
        return (self.values.get(name) or [KNOWN["defaults"].get(name, "")])[-1]

    def flag(self, name: str) -> bool:
        """Return whether a boolean flag is set."""
        return self.text(name).lower() in ("true", "1")

    def items(self, name: str) -> list[str]:
        """Return all values of a flag, split at commas."""
        values = self.values.get(name) or [KNOWN["defaults"].get(name, "")]
        return [item.strip() for value in values for item in value.split(",") if item.strip()]

    @property
    def data_dir(self) -> Path:
        return Path(self.text("data-dir"))

    @property
    def server_dir(self) -> Path:
        return self.data_dir / "server"

    @property
    def node_name(self) -> str:
        return (self.text("node-name") or socket.gethostname()).lower()

    @property
    def addresses(self) -> list[str]:
        """Return the node's addresses; the first is that of etcd."""
        return self.items("node-ip") or [_host_address()]

    def secret(self, name: str) -> str:
        """Return a token from the file of the flag `NAME-file`, or from its flag."""
        if not (path := self.text(f"{name}-file")):
            return self.text(name)
        try:
            return Path(path).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise FatalError(f"open {path}: {error.strerror}") from error

    def service_address(self, index: int) -> str:
        """Return an address of the service network."""
        return str(_network(self.items("service-cidr")[0])[index])

    def critical(self) -> dict[str, object]:
        """Return the settings that all servers must share, by flag."""
        return {
            "cluster-cidr": self.items("cluster-cidr"),
            "service-cidr": self.items("service-cidr"),
            "cluster-dns": self.items("cluster-dns") or [self.service_address(10)],
            "disable-service-lb": "servicelb" in self.items("disable"),
            **{name: self.text(name) for name in KNOWN["critical"]["text"]},
            **{name: self.flag(name) for name in KNOWN["critical"]["bool"]},
        }

    def check(self) -> None:
        """Raise FatalError for settings that K3s refuses before any start, and for those that the stand-in lacks."""
        for name in KNOWN["unsupported"]:
            if self.text(name) not in ("", "false"):
                raise FatalError(f"the stand-in does not support --{name}")
        if self.text("cluster-reset-restore-path") and not self.flag("cluster-reset"):
            raise FatalError("invalid flag use; --cluster-reset required with --cluster-reset-restore-path")
        for name in ("cluster-cidr", "service-cidr", "cluster-dns"):
            for value in self.items(name):
                try:
                    _network(f"{value}/32" if name == "cluster-dns" else value)
                except ValueError as error:
                    raise FatalError(f"invalid {name} {value}: invalid CIDR address: {value}") from error


def _network(value: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    if "/" not in value:
        raise ValueError(value)
    return ipaddress.ip_network(value, strict=False)


def _host_address() -> str:
    """Return the address of the interface of the default route, or of the host's name."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            return str(probe.getsockname()[0])
        except OSError:
            return socket.gethostbyname(socket.gethostname())


def read_files(main: str) -> list[tuple[str, str]]:
    """Return (key, value) of the configuration file and its fragments, merged as K3s merges them."""
    merged: dict[str, list[str]] = {}
    fragments = sorted(path for path in Path(f"{main}.d").glob("*") if path.suffix.lower() in (".yaml", ".yml"))
    for path in (Path(main), *fragments):
        try:
            loaded = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
        except yaml.YAMLError as error:
            raise FatalError(f"yaml: {path}: {error}") from error
        for key, value in (loaded or {}).items():
            name, values = (
                str(key).removesuffix("+"),
                [_text(each) for each in (value if isinstance(value, list) else [value])],
            )
            merged[name] = [*merged.get(name, []), *values] if str(key).endswith("+") else values
    return [(name, value) for name, values in merged.items() for value in values]


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else "" if value is None else str(value)


def parse(command: str, words: list[str], given: Mapping[str, str] | None = None) -> Settings:
    """Return the settings of a command: files first, then flags; environment variables where neither sets a flag."""
    environment = os.environ if given is None else given
    groups = [KNOWN["groups"][name] for name in KNOWN["commands"][command]]
    kinds = {name: kind for group in groups for kind, names in group.items() for name in names}
    aliases = KNOWN["aliases"] | (KNOWN["snapshot-aliases"] if command == "etcd-snapshot" else {})
    flags, rest = _read_flags(words, kinds, aliases)
    main = next(
        (value for key, value in flags if aliases.get(key, key) == "config"),
        environment.get("K3S_CONFIG_FILE", CONFIG_FILE),
    )
    settings = Settings(command, {}, rest)
    for key, value in [*read_files(main), *flags]:
        if (name := aliases.get(key, key)) not in kinds:
            log("warning", f"Unknown flag --{key} found in config.yaml, skipping\n")
            continue
        settings.values.setdefault(name, []).append(value)
        # K3s hides the values of long flags only.
        hidden = len(key) > 1 and ("token" in name or "secret" in name)
        settings.recorded += [f"--{name}", "********" if hidden else value]
    for name, variable in KNOWN["environment"].items():
        if name in kinds and environment.get(variable) and name not in settings.values:
            settings.values[name] = [environment[variable]]
    return settings


def _read_flags(
    words: list[str], kinds: Mapping[str, str], aliases: Mapping[str, str]
) -> tuple[list[tuple[str, str]], list[str]]:
    """Return (flag or alias, value) and the arguments that are not flags."""
    flags, rest, queue = [], [], list(words)
    while queue:
        word = queue.pop(0)
        key, separator, value = word.lstrip("-").partition("=")
        name = aliases.get(key, key)
        if not word.startswith("-"):
            rest.append(word)
        elif name not in kinds:
            raise FatalError(f"flag provided but not defined: -{key}")
        elif not separator and kinds[name] != "bool" and not queue:
            raise FatalError(f"flag needs an argument: -{key}")
        else:
            flags.append((key, value if separator else "true" if kinds[name] == "bool" else queue.pop(0)))
    return flags, rest
