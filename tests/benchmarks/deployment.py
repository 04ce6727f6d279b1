# SPDX-License-Identifier: GPL-3.0-or-later
"""A lakehouse of the benchmark: in a scratch folder, with its own ports and user."""

from __future__ import annotations

import json
import os
import pwd
import re
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.catalogue.render import render
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.health.host.examine import Installation

ROOT = Path(__file__).resolve().parents[2]
CATALOGUE = ROOT / "roles" / "catalogue"
ENVIRONMENT = "development"
SERVICE_USER = "lakehouse-bench"
LOOPBACK = "127.0.0.1"
_CHANGED = re.compile(r"^localhost\s.*\bchanged=(\d+)", re.MULTILINE)


class BenchmarkError(Exception):
    """The benchmark cannot continue."""


@dataclass(frozen=True)
class Run:
    """Result of a playbook.

    Seconds from start to end, number of tasks that changed something, and CPU seconds of all its processes.
    """

    took_s: float
    changed: int
    cpu_s: float


@dataclass(frozen=True)
class Deployment:
    """A lakehouse below `scratch`, whose ports are moved by `port_offset`."""

    scratch: Path
    port_offset: int

    @property
    def home(self) -> Path:
        """The folder of the lakehouse."""
        return self.scratch / "home"

    @property
    def user(self) -> str:
        """The user of its services."""
        return SERVICE_USER if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name

    @property
    def socket(self) -> Path:
        """The socket of its supervisord."""
        return self.home / "run" / "supervisor.sock"

    def play(self, playbook: str, **variables: Any) -> Run:
        """Run a playbook, its output on standard error.

        Raises:
            BenchmarkError: when it fails.
        """
        given = {
            "lakehouse_target": "host",
            "lakehouse_environment": ENVIRONMENT,
            "lakehouse_home": str(self.home),
            "lakehouse_port_offset": self.port_offset,
            "lakehouse_service_user": SERVICE_USER,
            **variables,
        }
        program = str(Path(sys.executable).with_name("ansible-playbook"))
        command = [program, "-i", "inventories/local", f"playbooks/{playbook}.yml", "-e", json.dumps(given)]
        started_s, before_s = time.monotonic(), _ended_cpu_s()
        # In a separate session: an interrupt from the keyboard reaches only the benchmark, which stops the playbook
        # itself.
        with subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, start_new_session=True
        ) as process:
            try:
                output = _shown(process)
            except BaseException:
                process.terminate()
                raise
        took_s = time.monotonic() - started_s
        if process.returncode:
            raise BenchmarkError(f"{playbook} failed with exit code {process.returncode}")
        found = _CHANGED.search(output)
        if found is None:
            raise BenchmarkError(f"{playbook} told no number of changes")
        return Run(took_s, int(found[1]), _ended_cpu_s() - before_s)

    def forget_all_but_packages(self) -> None:
        """Restore the state before the first deployment, except that all packages are downloaded."""
        kept = self.scratch / "cache"
        (self.home / "cache").rename(kept)
        self.play("destroy", lakehouse_destroy_confirm=ENVIRONMENT)
        for name in ("data", "secrets"):
            shutil.rmtree(self.home / name)
        kept.rename(self.home / "cache")

    def remove(self) -> None:
        """Remove the lakehouse with its data; missing parts are accepted.

        Raises:
            BenchmarkError: when any part is left.
        """
        if self.home.exists():
            self.play("destroy", lakehouse_destroy_confirm=ENVIRONMENT, lakehouse_destroy_data=True)
        if self.home.exists():
            raise BenchmarkError(f"{self.home} was not removed")

    def installation(self) -> Installation:
        """Return the parameters of a health check."""
        marker = json.loads((self.home / ".crypto-lakehouse.json").read_text(encoding="utf-8"))
        software = self.home / "software" / str(marker["software"])
        packages = json.loads((software / ".complete").read_text(encoding="utf-8"))["packages"]
        described = yaml.safe_load((CATALOGUE / "vars" / "main.yml").read_text(encoding="utf-8"))
        place = {
            "home": str(self.home),
            "software": str(software),
            "user": self.user,
            "bind_address": LOOPBACK,
            "port_offset": self.port_offset,
            "unavailable": {} if "grafana" in packages else {"grafana": "its package cannot be had"},
        }
        rendered = render(
            described["catalogue_services"],
            described["catalogue_secrets"],
            "host",
            ENVIRONMENT,
            {},
            {**described["catalogue_settings"], **place},
            str(CATALOGUE),
        )
        ports = {(port["service"], port["name"]): port["port"] for port in rendered["ports"]}
        return Installation(
            home=str(self.home),
            programs=rendered["programs"],
            health=rendered["health"],
            api_url=_address(ports, "api"),
            prometheus_url=_address(ports, "prometheus"),
            prometheus_username="lakehouse",
            prometheus_password_file=f"{self.home}/secrets/prometheus/prometheus_password",
        )


def _address(ports: Mapping[tuple[str, str], int], service: str) -> str:
    return f"http://{LOOPBACK}:{ports[service, 'http']}"


def _ended_cpu_s() -> float:
    """Return the CPU seconds of all ended child processes and their descendants."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _shown(process: subprocess.Popen[str]) -> str:
    """Return the output of the process, and print it on standard error as it arrives."""
    lines = []
    for line in process.stdout or ():
        sys.stderr.write(line)
        sys.stderr.flush()
        lines.append(line)
    return "".join(lines)
