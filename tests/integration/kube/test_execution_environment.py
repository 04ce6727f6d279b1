# SPDX-License-Identifier: GPL-3.0-or-later
"""The built package in an execution environment: its requirements resolve, and playbooks need no writable project.

It belongs to this step because it prepares kubernetes.core, which every such image contains as well.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tools.bootstrap import pip_settings, uv_environment, working_pip

REPOSITORY = Path(__file__).resolve().parents[3]
BIN = Path(sys.executable).parent
KUBERNETES = REPOSITORY / ".venv/collections/ansible_collections/kubernetes"
REQUIREMENTS = REPOSITORY / "meta/ee-requirements.txt"
NO_LAKEHOUSE = "holds no lakehouse. Remedy: run playbooks/deploy.yml first"
# The message of each playbook in check mode on a machine without a lakehouse; an empty text means success.
PLAYBOOKS = {
    **dict.fromkeys(("backup_create", "backup_list", "backup_restore", "backup_verify"), NO_LAKEHOUSE),
    "deploy": "",
    "plan": "",
    "destroy": "add -e lakehouse_destroy_confirm=development",
    "drift": NO_LAKEHOUSE,
    "health": NO_LAKEHOUSE,
    **dict.fromkeys(
        ("k3s_install", "k3s_remove", "k3s_restore", "k3s_snapshot", "k3s_upgrade"),
        "group k3s_servers has no host. Remedy: add the servers to this group",
    ),
    "scale": "or use a cluster",
    "upgrade": NO_LAKEHOUSE,
    "verify": NO_LAKEHOUSE,
}
# As root, permissions alone would not prevent writes.
READ_ONLY = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'


@dataclass(frozen=True)
class Image:
    """An execution environment: collections, a read-only project, and a folder for artifacts."""

    folder: Path
    home: Path

    @property
    def collections(self) -> Path:
        return self.folder / "collections"

    def run(self, playbook: str) -> tuple[int, str]:
        """Run a playbook in check mode by ansible-runner; return its exit code and output."""
        project = self.folder / "run/project"
        words = f"--check -e lakehouse_home={self.home} -e lakehouse_port_offset=3900"
        runner = [str(BIN / "ansible-runner"), "run", str(self.folder / "run"), "--cmdline", words]
        command = [*runner, "-p", f"crypto_lakehouse.platform.{playbook}"]
        if os.geteuid() == 0:
            command = ["unshare", "--mount", "sh", "-c", READ_ONLY, str(project), *command]
        pip = working_pip()
        registries = uv_environment(os.environ, pip_settings(pip) if pip else {})
        environment = {name: value for name, value in registries.items() if name.startswith(("UV_", "SSL_", "PIP_"))}
        environment |= {
            "PATH": f"{BIN}:/usr/bin:/bin",
            "LC_ALL": "C.UTF-8",
            "HOME": str(project / "home"),
            "ANSIBLE_HOME": str(self.folder / "run/ansible"),
            "ANSIBLE_COLLECTIONS_PATH": str(self.collections),
        }
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    # The service user must be able to enter the folder above its home.
    with tempfile.TemporaryDirectory(prefix="image") as folder:
        Path(folder).chmod(0o755)
        yield _built(Image(tmp_path_factory.mktemp("image"), Path(folder, "home")))


def _built(made: Image) -> Image:
    platform = made.collections / "ansible_collections/crypto_lakehouse/platform"
    platform.mkdir(parents=True)
    build = [str(BIN / "ansible-galaxy"), "collection", "build", "--output-path", str(made.folder), str(REPOSITORY)]
    environment = {"ANSIBLE_HOME": str(made.folder / "galaxy"), "LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"}
    subprocess.run(build, env=environment, check=True, capture_output=True)
    with tarfile.open(next(made.folder.glob("*.tar.gz"))) as archive:
        archive.extractall(platform, filter="data")
    shutil.copytree(KUBERNETES, made.collections / "ansible_collections/kubernetes")
    shutil.copytree(REPOSITORY / "inventories/local", made.folder / "run/inventory")
    project = made.folder / "run/project"
    project.mkdir()
    project.chmod(0o555)
    return made


def test_the_requirements_of_the_package_resolve_beside_those_of_kubernetes_core(image: Image) -> None:
    combined = image.folder / "requirements.txt"
    introspect = [str(BIN / "ansible-builder"), "introspect", str(image.collections), "--write-pip", str(combined)]
    found = yaml.safe_load(subprocess.run(introspect, check=True, capture_output=True, text=True).stdout)
    ours = {line.split("#")[0].strip() for line in found["python"] if "crypto_lakehouse.platform" in line}
    described = [line for line in REQUIREMENTS.read_text().splitlines() if line and not line.startswith("#")]
    assert ours == set(described)
    assert any("kubernetes.core" in line for line in found["python"])
    # pip accepts no requirement without a hash beside one that has hashes.
    assert "--hash" not in combined.read_text()
    pip = working_pip()
    resolve = [str(BIN / "uv"), "pip", "compile", "--no-header", "--no-annotate", "--quiet", str(combined)]
    environment = uv_environment(os.environ, pip_settings(pip) if pip else {})
    resolved = subprocess.run(resolve, env=environment, check=True, capture_output=True, text=True).stdout
    names = {line.partition(">=")[0] for line in described}
    assert {line.partition("==")[0] for line in resolved.splitlines()} >= names


def test_every_playbook_is_listed() -> None:
    playbooks = {path.stem for path in (REPOSITORY / "playbooks").glob("*.yml")} - {"guard"}
    assert playbooks == set(PLAYBOOKS)


@pytest.mark.parametrize("playbook", PLAYBOOKS)
def test_a_playbook_runs_with_a_read_only_project_and_without_a_home(image: Image, playbook: str) -> None:
    exit_code, output = image.run(playbook)
    expected = PLAYBOOKS[playbook]
    assert (exit_code == 0) == (not expected), output
    assert expected in " ".join(output.split())
    assert "Read-only file system" not in output
    assert "Traceback" not in output
    assert list((image.folder / "run/project").iterdir()) == []
    assert not image.home.exists()
