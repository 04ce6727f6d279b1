# SPDX-License-Identifier: GPL-3.0-or-later
"""Sources of charts: a repository over HTTPS and an OCI registry, on loopback, each with TLS and credentials.

The repository is a web server over a folder whose index Helm has written. The registry is Debian's `docker-registry`,
which LAKEHOUSE_TEST_REGISTRY names.
"""

from __future__ import annotations

import base64
import http.client
import http.server
import json
import os
import shutil
import ssl
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import bcrypt
import yaml

from tests.integration.kube.cluster import free_port
from tests.integration.kube.roleplay import ROOT, helm
from tests.unit.kube.authority import Authority

REGISTRY = os.environ.get(
    "LAKEHOUSE_TEST_REGISTRY", str(ROOT / ".cache" / "registry" / "packages" / "usr" / "bin" / "docker-registry")
)
NAMES = ("charts.lakehouse.test", "registry.lakehouse.test")
"""Names that no resolver knows: their clients use the proxy of the test."""
# A program of util-linux: its child ends with the parent, for any cause.
_WRAPPER = ("setpriv", "--pdeathsig=TERM", "--")
_START_S = 30.0


GROUP, PLURAL = "charts.lakehouse.test", "samples"
_OBJECT = """\
apiVersion: charts.lakehouse.test/v1
kind: Sample
metadata: {name: {{ .Release.Name }}, namespace: {{ .Release.Namespace }}}
spec: {FIELD: {{ .Values.word }}}
"""


def write_chart(folder: Path, version: str, field: str = "first") -> Path:
    """Write the package of a chart with a definition, and an object with a field of that definition."""
    chart = folder / version / "sample"
    for name in ("crds", "templates"):
        (chart / name).mkdir(parents=True)
    about = {
        "apiVersion": "v2",
        "name": "sample",
        "version": version,
        "description": "One object of a kind of its own.",
    }
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "names": {"kind": "Sample", "plural": PLURAL, "singular": "sample", "listKind": "SampleList"},
            "scope": "Namespaced",
            "versions": [
                {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": _schema(field)}}
            ],
        },
    }
    (chart / "Chart.yaml").write_text(yaml.safe_dump(about), "utf-8")
    (chart / "values.yaml").write_text("word: some\n", "utf-8")
    (chart / "crds/sample.yaml").write_text(yaml.safe_dump(definition), "utf-8")
    (chart / "templates/sample.yaml").write_text(_OBJECT.replace("FIELD", field), "utf-8")
    helm("package", chart, "--destination", folder)
    return folder / f"sample-{version}.tgz"


def _schema(field: str) -> dict[str, object]:
    spec = {"type": "object", "properties": {field: {"type": "string"}}}
    return {"type": "object", "properties": {"spec": spec}}


@dataclass(frozen=True)
class Account:
    """Username and password for pulling."""

    username: str
    password: str

    @property
    def header(self) -> str:
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()

    @property
    def forms(self) -> tuple[str, ...]:
        """The password in all forms in which it could be written."""
        return self.password, self.header.removeprefix("Basic ")


class Keys:
    """A certificate of a throwaway authority for loopback, in a folder. bundle: that of the authority."""

    def __init__(self, folder: Path) -> None:
        authority = Authority()
        issued = authority.issue(addresses=("127.0.0.1", "localhost", *NAMES))
        self.bundle, self.certificate, self.key = (folder / name for name in ("ca.pem", "server.pem", "server.key"))
        self.bundle.write_text(authority.pem, "utf-8")
        self.certificate.write_text(issued.certificate, "utf-8")
        self.key.write_text(issued.key, "utf-8")


class Repository:
    """A chart repository over a folder.

    asked: requested paths. account: required credentials; None allows all users. cut: packages end in their middle.
    held: packages are started and not completed until it is set.
    """

    def __init__(self, folder: Path, keys: Keys, account: Account | None = None) -> None:
        self.folder, self.account, self.asked, self.cut = folder, account, list[str](), False
        self.held: threading.Event | None = None
        self.begun = threading.Event()
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(keys.certificate, keys.key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    def _handler(self) -> type[http.server.SimpleHTTPRequestHandler]:
        repository = self

        class Handler(http.server.SimpleHTTPRequestHandler):
            def __init__(self, *given: object) -> None:
                super().__init__(*given, directory=str(repository.folder))  # type: ignore[arg-type]

            def do_GET(self) -> None:
                repository.asked.append(self.path)
                if repository.account and self.headers.get("Authorization") != repository.account.header:
                    self.send_error(401)
                elif self.path.endswith(".tgz") and (repository.cut or repository.held):
                    self.begin()
                else:
                    super().do_GET()

            def begin(self) -> None:
                """Send the first half of the promised content."""
                content = (repository.folder / self.path.lstrip("/")).read_bytes()
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[: len(content) // 2])
                self.wfile.flush()
                repository.begun.set()
                if repository.held:
                    repository.held.wait(60)
                self.close_connection = True

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class calls it so
                return

        return Handler

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def publish(self, *packages: Path) -> None:
        """Add packages and write the index."""
        for package in packages:
            shutil.copy(package, self.folder)
        helm("repo", "index", self.folder)

    def forge(self, name: str, digest: str) -> None:
        """Write a wrong digest of a chart to the index."""
        path = self.folder / "index.yaml"
        index = yaml.safe_load(path.read_text("utf-8"))
        for entry in index["entries"][name]:
            entry["digest"] = digest
        path.write_text(yaml.safe_dump(index), "utf-8")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Registry:
    """An OCI registry with credentials, in a separate process."""

    def __init__(self, folder: Path, keys: Keys, account: Account) -> None:
        self.folder, self.keys, self.account, self.port = folder, keys, account, free_port()
        self._log = folder / "registry.log"

    @property
    def url(self) -> str:
        return f"oci://127.0.0.1:{self.port}/charts"

    @property
    def log(self) -> str:
        return self._log.read_text("utf-8", errors="replace")

    def push(self, *packages: Path) -> None:
        """Push packages, as their publisher does."""
        config = self.folder / "publisher.json"
        auths = {f"127.0.0.1:{self.port}": {"auth": self.account.header.removeprefix("Basic ")}}
        config.write_text(json.dumps({"auths": auths}), "utf-8")
        for package in packages:
            helm("push", package, self.url, "--ca-file", self.keys.bundle, "--registry-config", config)

    def __enter__(self) -> Self:
        if not os.access(REGISTRY, os.X_OK):
            raise AssertionError(f"{REGISTRY} is not there: run `make kube`, or name one in LAKEHOUSE_TEST_REGISTRY")
        hashed = bcrypt.hashpw(self.account.password.encode(), bcrypt.gensalt(4)).decode()
        (self.folder / "htpasswd").write_text(f"{self.account.username}:{hashed}\n", "utf-8")
        tls = {"certificate": str(self.keys.certificate), "key": str(self.keys.key)}
        settings = {
            "version": 0.1,
            "log": {"level": "info", "accesslog": {"disabled": False}},
            "storage": {"filesystem": {"rootdirectory": str(self.folder / "blobs")}},
            "http": {"addr": f"127.0.0.1:{self.port}", "tls": tls},
            "auth": {"htpasswd": {"realm": "charts", "path": str(self.folder / "htpasswd")}},
        }
        config = self.folder / "registry.yml"
        config.write_text(yaml.safe_dump(settings), "utf-8")
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*_WRAPPER, REGISTRY, "serve", config], stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        self._wait()
        return self

    def _wait(self) -> None:
        context = ssl.create_default_context(cafile=str(self.keys.bundle))
        # The throwaway authority does not restrict the use of its key.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        deadline_s = time.monotonic() + _START_S
        while True:
            assert self._process.poll() is None, f"the registry ended:\n{self.log[-3000:]}"
            assert time.monotonic() < deadline_s, f"the registry did not get ready:\n{self.log[-3000:]}"
            asking = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=5, context=context)
            try:
                asking.request("GET", "/v2/")
                if asking.getresponse().status == http.client.UNAUTHORIZED:
                    return
            except OSError:
                time.sleep(0.05)
            finally:
                asking.close()

    def __exit__(self, *_error: object) -> None:
        self._process.terminate()
        self._process.wait(20)
