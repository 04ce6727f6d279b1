# SPDX-License-Identifier: GPL-3.0-or-later
"""Check the objects that the catalogue renders for clusters against the policies of checkov.

    tools/check_manifests.py .cache/policy/venv/bin/checkov

The platform is rendered for every target and environment. A finding fails the check unless ``EXCEPTIONS`` states why it
is accepted; so does an unused exception.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / ".venv" / "collections"))

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.catalogue.render import render  # noqa: E402
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.inventory.variables import ENVIRONMENTS  # noqa: E402
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.shared.targets import CLUSTERS  # noqa: E402

CATALOGUE = ROOT / "roles" / "catalogue"
FOUNDATION = {
    "database_endpoint": "database.example.org:5432",
    "database_ca_bundle": "-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n",
}
DIGEST = f"sha256:{'0' * 64}"

EXCEPTIONS: Mapping[tuple[str, str], str] = {
    ("CKV_K8S_35", "*"): "Prefect, SeaweedFS and Trino read secrets from variables alone",
    ("CKV_K8S_40", "StatefulSet.crypto-lakehouse.database"): "the image's files belong to user 999 (postgres)",
    ("CKV_K8S_40", "Deployment.crypto-lakehouse.trino"): "the image's files belong to user 1000 (trino)",
    ("CKV_K8S_40", "Deployment.crypto-lakehouse.trino-worker"): "the image's files belong to user 1000 (trino)",
}
"""Accepted findings, by check and resource (``*`` for all), with the reason."""


@dataclass(frozen=True, order=True)
class Finding:
    """A finding of checkov for one object."""

    check: str
    resource: str
    file: str
    name: str

    def __str__(self) -> str:
        return f"{self.file}: {self.resource}: {self.name} ({self.check})"


def rendered(target: str, environment: str) -> list[dict[str, Any]]:
    """Return every object of the platform on a target; its images are pinned by digest, as in production."""
    described = yaml.safe_load((CATALOGUE / "vars" / "main.yml").read_text("utf-8"))
    images = {words["image"] for words in described["catalogue_services"].values() if "image" in words}
    settings = {**described["catalogue_settings"], **FOUNDATION, "image_digests": dict.fromkeys(images, DIGEST)}
    services, secrets = described["catalogue_services"], described["catalogue_secrets"]
    result = render(services, secrets, target, environment, None, settings, str(CATALOGUE))
    return [result["namespace"], *result["manifests"], *result["jobs"].values()]


def write_manifests(folder: Path) -> None:
    """Write one file for each target and environment."""
    for target in CLUSTERS:
        for environment in ENVIRONMENTS:
            # Through JSON, since YAML would write repeated objects as references.
            documents = json.loads(json.dumps(rendered(target, environment)))
            text = yaml.dump_all(documents, Dumper=yaml.CSafeDumper, sort_keys=False)
            (folder / f"{target}-{environment}.yaml").write_text(text, "utf-8")


def findings(checkov: Path, folder: Path) -> tuple[list[Finding], int]:
    """Return checkov's findings for the files of a folder, and the number of passed checks.

    Raises:
        RuntimeError: for unreadable output of checkov.
    """
    command = [str(checkov), "--framework", "kubernetes", "--directory", str(folder), "--output", "json"]
    done = subprocess.run(
        [*command, "--compact", "--quiet", "--skip-download"], capture_output=True, text=True, check=False
    )
    try:
        report = json.loads(done.stdout)
        failed, passed = report["results"]["failed_checks"], int(report["summary"]["passed"])
    except (ValueError, KeyError, TypeError) as error:
        raise RuntimeError(f"checkov gave no report (exit code {done.returncode}): {done.stderr.strip()}") from error
    found = [
        Finding(each["check_id"], each["resource"], each["file_path"].lstrip("/"), each["check_name"])
        for each in failed
    ]
    return sorted(set(found)), passed


def problems(found: Iterable[Finding], exceptions: Mapping[tuple[str, str], str]) -> Iterator[str]:
    """Yield findings without an exception, then exceptions without a finding."""
    used = set()
    for finding in found:
        keys = {(finding.check, finding.resource), (finding.check, "*")} & set(exceptions)
        used |= keys
        if not keys:
            yield str(finding)
    for check, resource in sorted(set(exceptions) - used):
        yield f"tools/check_manifests.py: the exception of {check} for {resource} is needed by nothing; remove it"


def main(arguments: Sequence[str] | None = None) -> int:
    """Render, check, and print the problems."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("checkov", type=Path, help="the program")
    checkov = parser.parse_args(arguments).checkov
    # Not below .cache: checkov skips folders whose names begin with a dot.
    with tempfile.TemporaryDirectory(prefix="lakehouse-manifests-") as folder:
        write_manifests(Path(folder))
        found, passed = findings(checkov, Path(folder))
    wrong = list(problems(found, EXCEPTIONS))
    if not passed:
        wrong.append("checkov looked at nothing")
    for problem in wrong:
        print(problem, file=sys.stderr)
    print(f"{passed} policy checks passed, {len(found)} findings, {len(wrong)} of them not explained")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
