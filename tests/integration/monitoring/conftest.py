# SPDX-License-Identifier: GPL-3.0-or-later
"""The real monitoring programs, each started once in its own folder and on its own ports."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from ansible_collections.crypto_lakehouse.platform.tests.integration.monitoring.exposition import get
from ansible_collections.crypto_lakehouse.platform.tests.integration.monitoring.rendering import (
    alertmanager_configuration,
)
from tests.integration.patience import HANG_S, is_within

ROOT = Path(__file__).resolve().parents[3]
RULES = ROOT / "roles" / "catalogue" / "files" / "rules"
START_LIMIT_S = 60.0


@pytest.fixture(scope="session")
def programs() -> Path:
    """Return the folder of the programs, prepared like that of a host."""
    folder = Path(os.environ.get("LAKEHOUSE_TEST_SOFTWARE", str(ROOT / ".cache" / "software")), "bin")
    needed = ("prometheus", "promtool", "alertmanager", "amtool", "node_exporter", "weed")
    missing = [name for name in needed if not os.access(folder / name, os.X_OK)]
    if missing:
        pytest.fail(f"{folder} has no {', '.join(missing)}: run `make services`")
    return folder


@pytest.fixture(scope="session")
def run(programs: Path) -> Callable[..., str]:
    """Run one of the programs to its end; the test's message contains the output of a failure."""

    def run_program(name: str, *arguments: str | Path) -> str:
        done = subprocess.run(
            [programs / name, *arguments], capture_output=True, text=True, timeout=HANG_S, check=False
        )
        if done.returncode:
            pytest.fail(f"{name} {' '.join(map(str, arguments))}:\n{done.stdout}{done.stderr}")
        return done.stdout

    return run_program


@pytest.fixture(scope="session")
def start(programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., None]]:
    """Start one of the programs and wait until one of its URLs answers; all are stopped at the end."""
    started: list[subprocess.Popen[bytes]] = []

    def start_program(name: str, *arguments: str | Path, ready: str) -> None:
        log = tmp_path_factory.mktemp(name) / "log"
        with log.open("wb") as output:
            process = subprocess.Popen([programs / name, *arguments], cwd=log.parent, stdout=output, stderr=output)
        started.append(process)
        begun_s = time.monotonic()
        while not answers(ready):
            if process.poll() is not None or not is_within(begun_s, START_LIMIT_S):
                pytest.fail(f"{name} does not answer at {ready}; its log ends with\n{log.read_text()[-2000:]}")
            time.sleep(0.1)

    yield start_program
    # Their data is discarded, and an orderly stop of the object store takes half a minute.
    for process in started:
        process.kill()
    for process in started:
        process.wait()


def answers(url: str) -> bool:
    try:
        get(url)
    except OSError:
        return False
    return True


@pytest.fixture(scope="session")
def textfiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder from which the node exporter reads metrics of other programs."""
    return tmp_path_factory.mktemp("textfiles")


@pytest.fixture(scope="session")
def node_exporter_url(start: Callable[..., None], free_port: Callable[[], int], textfiles: Path) -> str:
    address = f"127.0.0.1:{free_port()}"
    start(
        "node_exporter",
        f"--web.listen-address={address}",
        f"--collector.textfile.directory={textfiles}",
        ready=f"http://{address}/metrics",
    )
    return f"http://{address}"


@pytest.fixture(scope="session")
def alertmanager_url(
    start: Callable[..., None], free_port: Callable[[], int], tmp_path_factory: pytest.TempPathFactory
) -> str:
    folder, address = tmp_path_factory.mktemp("alertmanager-data"), f"127.0.0.1:{free_port()}"
    (folder / "alertmanager.yml").write_text(alertmanager_configuration(), encoding="utf-8")
    start(
        "alertmanager",
        f"--config.file={folder / 'alertmanager.yml'}",
        f"--storage.path={folder}",
        f"--web.listen-address={address}",
        "--cluster.listen-address=",
        ready=f"http://{address}/-/ready",
    )
    return f"http://{address}"


@pytest.fixture(scope="session")
def prometheus_url(
    start: Callable[..., None],
    free_port: Callable[[], int],
    tmp_path_factory: pytest.TempPathFactory,
    alertmanager_url: str,
    node_exporter_url: str,
) -> str:
    folder, address = tmp_path_factory.mktemp("prometheus-data"), f"127.0.0.1:{free_port()}"
    targets = {"prometheus": address, "node-exporter": host_of(node_exporter_url)}
    configuration = {
        "global": {"scrape_interval": "5s", "evaluation_interval": "15s"},
        "rule_files": [f"{RULES}/*.yml"],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [host_of(alertmanager_url)]}]}]},
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": [target]}]} for job, target in targets.items()
        ],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration), encoding="utf-8")
    start(
        "prometheus",
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder}",
        f"--web.listen-address={address}",
        # Alerts that fired before Alertmanager was found are sent again after this time, by default a minute.
        "--rules.alert.resend-delay=5s",
        ready=f"http://{address}/-/ready",
    )
    return f"http://{address}"


def host_of(url: str) -> str:
    return url.removeprefix("http://")


@pytest.fixture(scope="session")
def object_store_metrics_url(
    start: Callable[..., None], free_port: Callable[[], int], tmp_path_factory: pytest.TempPathFactory
) -> str:
    """Return the metrics URL of an object store after a write and a read: many series begin with the first use."""
    roles = ("master", "volume", "filer", "s3")
    ports = [f"-{role}.port{kind}={free_port()}" for role in roles for kind in ("", ".grpc")]
    s3 = next(port for port in ports if port.startswith("-s3.port=")).partition("=")[2]
    metrics, data = free_port(), tmp_path_factory.mktemp("object-store")
    start(
        "weed",
        "-logtostderr=true",
        "server",
        f"-dir={data}",
        f"-filer.localSocket={data / 'filer.sock'}",
        f"-s3.localSocket={data / 's3.sock'}",
        "-s3.port.lance=0",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        "-filer",
        "-s3",
        f"-s3.port.iceberg={free_port()}",
        f"-metricsPort={metrics}",
        "-metricsIp=127.0.0.1",
        "-master.telemetry=false",
        "-volume.max=0",
        "-master.volumeSizeLimitMB=64",
        *ports,
        # Without an S3 configuration every user is allowed, which avoids signatures here.
        ready=f"http://127.0.0.1:{s3}/",
    )
    for path, body in (("bucket", b""), ("bucket/object", b"x" * 4096)):
        get(f"http://127.0.0.1:{s3}/{path}", method="PUT", data=body)
    get(f"http://127.0.0.1:{s3}/bucket/object")
    return f"http://127.0.0.1:{metrics}/metrics"
