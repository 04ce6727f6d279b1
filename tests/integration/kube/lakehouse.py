# SPDX-License-Identifier: GPL-3.0-or-later
"""A lakehouse on a cluster from the view of its user: an inventory, and the playbooks."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.client import Client
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.errors import ApiError
from tests.integration.kube.charts import ROOT
from tests.integration.kube.cluster import Cluster
from tests.integration.kube.kubelet import Fields
from tests.integration.patience import HANG_S, stretched
from tests.integration.playbook import Run, kill, played

NAMESPACE = "crypto-lakehouse"
PLACE = f"/api/v1/namespaces/{NAMESPACE}"
# Without the steps that need answers of real programs.
TAGS = "preflight,aws,services,monitoring"


@dataclass
class Lakehouse:
    """The playbooks, run against one cluster. `outputs` contains their complete output."""

    cluster: Cluster
    folder: Path
    helm: Path
    inventory: str = "k3s_local"
    variables: dict[str, Any] = field(default_factory=dict)
    outputs: list[str] = field(default_factory=list)
    secrets_seen: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.client: Client = self.cluster.client()

    def command(self, verb: str, *arguments: str, **given: Any) -> list[str]:
        standing = {"lakehouse_helm_binary": str(self.helm), "lakehouse_chart_folder": str(self.folder / "charts")}
        extra = self.folder / f"variables-{len(self.outputs)}.json"
        extra.write_text(json.dumps({**standing, **self.variables, **given}), "utf-8")
        playbook = verb if verb.endswith(".yml") else f"playbooks/{verb}.yml"
        program = str(Path(sys.executable).with_name("ansible-playbook"))
        return [program, "-i", self.place, playbook, "-e", f"@{extra}", *arguments]

    @property
    def place(self) -> str:
        """Folder of the inventory."""
        return f"inventories/{self.inventory}"

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "K8S_AUTH_"))}
        return {
            **kept,
            "KUBECONFIG": str(self.cluster.kubeconfig),
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_HOME": str(self.folder / "ansible"),
        }

    def run(self, verb: str, *arguments: str, **given: Any) -> Run:
        run = played(self.command(verb, *arguments, **given), ROOT, self.environment, self.folder / "output.txt")
        self.note(run.output)
        return run

    def well(self, verb: str, *arguments: str, **given: Any) -> Run:
        run = self.run(verb, *arguments, **given)
        assert run.exit_code == 0, run.output[-12000:]
        return run

    def badly(self, verb: str, *arguments: str, **given: Any) -> Run:
        run = self.run(verb, *arguments, **given)
        assert run.exit_code != 0, run.output[-12000:]
        return run

    def kill_when(self, reached: Callable[[], bool], verb: str, **given: Any) -> None:
        """Run a playbook and kill all of its processes at once, like a power failure."""
        output = self.folder / "killed.txt"
        # Files that it can no longer remove are deleted with this folder.
        with tempfile.TemporaryDirectory(prefix="lakehouse-killed-") as temporary, output.open("wb") as stream:
            process = subprocess.Popen(
                self.command(verb, "-t", TAGS, **given),
                cwd=ROOT,
                env={**self.environment, "TMPDIR": temporary},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            deadline_s = time.monotonic() + stretched(HANG_S)
            try:
                while not reached():
                    assert process.poll() is None, output.read_text("utf-8")[-6000:]
                    assert time.monotonic() < deadline_s, "what was waited for did not happen"
                    time.sleep(0.05)
            finally:
                kill(process)
        self.note(output.read_text("utf-8", errors="replace"))

    def deploy(self, *arguments: str, **given: Any) -> Run:
        """Deploy without the steps that need answers of real programs."""
        return self.well("deploy", "-t", TAGS, *arguments, **given)

    def get(self, path: str, **query: str) -> Fields | None:
        try:
            found: Fields = self.client.request("GET", path, query=query)
        except ApiError as error:
            if error.is_not_found:
                return None
            raise
        return found

    def names(self, path: str, **query: str) -> list[str]:
        return sorted(item["metadata"]["name"] for item in (self.get(path, **query) or {}).get("items", ()))

    @property
    def secrets(self) -> dict[str, str]:
        """Return the values that the cluster stores."""
        found = (self.get(f"{PLACE}/secrets/lakehouse-secrets") or {}).get("data", {})
        values = {name: base64.b64decode(value).decode() for name, value in found.items() if name != "origins.json"}
        self.secrets_seen |= set(values.values())
        return values

    def note(self, output: str) -> None:
        self.outputs.append(output)
        assert "Traceback" not in output, output[-8000:]
        _known = self.secrets

    def told(self) -> list[str]:
        """Return the secret values, plain or in base64, that appear in the output of any run."""
        forms = {form for value in self.secrets_seen for form in (value, base64.b64encode(value.encode()).decode())}
        return sorted(form for form in forms if any(form in output for output in self.outputs))
