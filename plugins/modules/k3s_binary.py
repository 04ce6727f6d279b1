# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Install a verified release of K3s."""

from __future__ import annotations

DOCUMENTATION = r"""
module: k3s_binary
short_description: Install a verified release of K3s
version_added: "1.0.0"
description:
  - Installs the binary of a pinned release, and its images if O(airgap_dir) contains them.
  - A file is written next to its target and compared with O(checksums), else with the checksum file of the release.
    Then it replaces the target atomically. A wrong checksum or architecture leaves the installed file unchanged.
  - The module does not run the binary.
  - Installed files with the recorded checksum of O(version) are not compared with the release again.
author:
  - The crypto_lakehouse.platform authors (@crypto-lakehouse)
options:
  version:
    description: Release, such as V(v1.34.3+k3s1).
    type: str
    required: true
  path:
    description: Path of the binary on the host.
    type: path
    default: /usr/local/bin/k3s
  url:
    description: Base URL of all releases. The files of a release are below C(URL/VERSION/).
    type: str
    default: https://github.com/k3s-io/k3s/releases/download
  airgap_dir:
    description:
      - Folder of the controller with the files of the release, or with a subfolder of them that has the release's name.
        It is used instead of O(url). It must contain the binary (V(k3s), V(k3s-arm64), V(k3s-armhf)), and the checksum
        file unless O(checksums) is set.
      - An archive of images (V(k3s-airgap-images-ARCH.tar.zst), V(.tar.gz) or V(.tar)) is optional.
    type: path
  images_dir:
    description: Folder of the host from which K3s imports images.
    type: path
    default: /var/lib/rancher/k3s/agent/images
  checksums:
    description:
      - Pinned SHA-256 by file name of the release, such as V(k3s-arm64) or, for one release,
        V(v1.34.3+k3s1/k3s-arm64).
    type: dict
    default: {}
  record:
    description: File of the host that records the installed release.
    type: path
    default: /usr/local/share/crypto-lakehouse/k3s.json
  stage:
    description:
      - Whether to write the verified files to O(staging_dir) instead of installing them. A later installation of the
        same release moves them from there.
    type: bool
    default: false
  staging_dir:
    description: Folder of the host for verified files of releases that are not installed yet.
    type: path
    default: /usr/local/share/crypto-lakehouse/staged
  timeout_s:
    description: Timeout of a download without data in seconds.
    type: int
    default: 60
  sources:
    description: Files that the action has copied to the host, with path and SHA-256 by name. Set by the action.
    type: dict
  state:
    description: V(present) installs. V(compared) returns the files that differ from O(sources). Used by the action.
    type: str
    choices: [present, compared]
    default: present
attributes:
  check_mode:
    support: full
    description: Returns whether files would change. Only the checksum file is read.
  diff_mode:
    support: full
    description: Lists the files that change.
  action:
    support: full
    description: The action copies files of O(airgap_dir) that differ from the controller to the host.
seealso:
  - module: crypto_lakehouse.platform.k3s_info
"""

EXAMPLES = r"""
- name: Install K3s from its release
  crypto_lakehouse.platform.k3s_binary:
    version: v1.34.3+k3s1
  become: true

- name: Install K3s and its images without a network
  crypto_lakehouse.platform.k3s_binary:
    version: v1.34.3+k3s1
    airgap_dir: /srv/k3s/v1.34.3+k3s1
  become: true
"""

RETURN = r"""
files:
  description: Paths of the files that changed, or would change in check mode.
  returned: success
  type: list
  elements: str
  sample: [/usr/local/bin/k3s]
program:
  description: Path of the binary, that in O(staging_dir) with O(stage).
  returned: success
  type: str
  sample: /usr/local/bin/k3s
architecture:
  description: Architecture of the host.
  returned: success
  type: str
  sample: x86_64
"""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.error import URLError

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.urls import open_url

from ..module_utils.host.errors import HostError, message_of
from ..module_utils.k3s_host.release import (
    BINARY_MODE,
    IMAGES_MODE,
    RELEASES,
    Record,
    Target,
    address,
    expected_sum,
    install,
    names,
    needed_files,
    pinned_sums,
)

ARGUMENT_SPEC = {
    "version": {"type": "str", "required": True},
    "path": {"type": "path", "default": "/usr/local/bin/k3s"},
    "url": {"type": "str", "default": RELEASES},
    "airgap_dir": {"type": "path"},
    "images_dir": {"type": "path", "default": "/var/lib/rancher/k3s/agent/images"},
    "checksums": {"type": "dict", "default": {}},
    "record": {"type": "path", "default": "/usr/local/share/crypto-lakehouse/k3s.json"},
    "stage": {"type": "bool", "default": False},
    "staging_dir": {"type": "path", "default": "/usr/local/share/crypto-lakehouse/staged"},
    "timeout_s": {"type": "int", "default": 60},
    "sources": {"type": "dict"},
    "state": {"type": "str", "choices": ["present", "compared"], "default": "present"},
}


class Installation:
    """One run of the module."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.given = module.params
        self.architecture = os.uname().machine
        self.names = names(self.architecture)
        self.staging = Path(self.given["staging_dir"]) / self.given["version"]
        self.checksums = pinned_sums(self.given["checksums"], self.given["version"])

    def targets(self) -> dict[str, Target]:
        """Return the files of the host by their name in the release."""
        if self.given["sources"] is not None:
            needed = needed_files(self.names, self.given["sources"])
            return {name: self._target(name, digest) for name, digest in needed.items()}
        binary = self.names.binary
        recorded = Record.read(Path(self.given["record"]))
        known = dict(recorded.files).get(self.given["path"], "") if recorded.version == self.given["version"] else ""
        pinned = self.checksums.get(binary, "").lower()
        digest = known if known and pinned in ("", known) else expected_sum(binary, self.checksums, self._sums)
        return {binary: self._target(binary, digest)}

    def staged(self, name: str, digest: str) -> Target:
        """Return the target of a verified file of a release that is not installed yet."""
        return Target(self.staging / name, digest, BINARY_MODE if name == self.names.binary else IMAGES_MODE)

    def _target(self, name: str, digest: str) -> Target:
        if self.given["stage"]:
            return self.staged(name, digest)
        if name == self.names.binary:
            return Target(Path(self.given["path"]), digest, BINARY_MODE)
        return Target(Path(self.given["images_dir"]) / name, digest, IMAGES_MODE)

    def _sums(self) -> str:
        with self._open(self.names.sums) as answer:
            return str(answer.read().decode(errors="replace"))

    def _open(self, name: str) -> Any:
        url = address(self.given["url"], self.given["version"], name)
        try:
            return open_url(url, timeout=self.given["timeout_s"])
        except (URLError, OSError, ValueError) as error:
            raise HostError(
                f"cannot download {url}: {error}. Check the network, or set `k3s_mirror_url` or `k3s_airgap_dir`."
            ) from None

    def install(self, pending: dict[str, Target]) -> None:
        """Install the files that differ, the binary last, so that images exist when it starts."""
        for name, target in sorted(pending.items(), key=lambda each: each[0] == self.names.binary):
            with self._source(name, target) as source:
                install(target, source, self.architecture)
            if self.module.selinux_enabled():
                path = str(target.path)
                self.module.set_context_if_different(path, self.module.selinux_default_context(path), False)

    def _source(self, name: str, target: Target) -> Any:
        staged = self.staged(name, target.sha256)
        if staged.installed:
            return staged.path.open("rb")
        if self.given["sources"] is None:
            return self._open(name)
        return Path(self.given["sources"][name]["path"]).open("rb")


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    try:
        run(module)
    except (HostError, OSError) as error:
        module.fail_json(msg=message_of(error))


def run(module: AnsibleModule) -> None:
    """Compare, install and record the files, and exit the module."""
    installation = Installation(module)
    targets = installation.targets()
    pending = {name: target for name, target in targets.items() if not target.installed}
    record, path = Record.of(module.params["version"], targets.values()), Path(module.params["record"])
    stages, compares = module.params["stage"], module.params["state"] == "compared"
    changed = bool(pending) or (not stages and Record.read(path) != record)
    if changed and not module.check_mode and not compares:
        installation.install(pending)
        if not stages:
            record.write(path)
            shutil.rmtree(installation.staging, ignore_errors=True)
    files = sorted(str(target.path) for target in pending.values())
    module.exit_json(
        changed=changed and not compares,
        files=files,
        # Staged files are not copied from the controller again.
        pending=sorted(
            name for name, target in pending.items() if not installation.staged(name, target.sha256).installed
        ),
        differs=changed,
        program=str(targets[installation.names.binary].path),
        architecture=installation.architecture,
        diff=_diff(files, module.params["version"]),
    )


def _diff(files: Sequence[str], version: str) -> dict[str, str]:
    return {"before": "", "after": "".join(f"{path}: {version}\n" for path in files)}


if __name__ == "__main__":
    main()
