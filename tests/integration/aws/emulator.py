# SPDX-License-Identifier: GPL-3.0-or-later
"""Run emulators of AWS on loopback: one start for a test session, and a separate account for each test."""

from __future__ import annotations

import functools
import itertools
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import botocore.loaders
import botocore.session
import urllib3

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.session import Connection, Session
from tests.integration.patience import wait_for

Name = Literal["moto", "ministack", "strict"]
NAMES: tuple[Name, ...] = ("moto", "ministack")
REGION = "eu-central-1"
_BIN = Path(__file__).parents[3] / ".venv" / "bin"
_START_S = 60.0
# moto searches the account of a key among all known accounts; a restart takes 4 s of CPU time.
_MOST_ACCOUNTS = 300
_ROOT_SECRET = "test"
# Linux ends the program together with its parent, also when the parent is killed. Source: PR_SET_PDEATHSIG of prctl(2).
_BOUND = "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 15); os.execvp(sys.argv[1], sys.argv[1:])"


def environment(folder: Path, variables: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return an environment without access to this machine's AWS configuration and containers."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return {
        **inherited,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "DOCKER_HOST": f"unix://{folder}/there-is-no-docker.sock",
        "TMPDIR": str(folder),
        "NO_PROXY": "127.0.0.1,localhost",
        **(variables or {}),
    }


@dataclass(eq=False)
class Server:
    """An emulator in a separate process."""

    name: Name
    url: str
    process: subprocess.Popen[bytes]
    log: Path
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    _made: int = 0

    @classmethod
    def start(cls, name: Name, folder: Path, program: Sequence[str] = ()) -> Server:
        """Start an emulator that writes into `folder` alone, and wait until it answers.

        program: the program that gets the emulator's arguments instead of its own program.
        """
        port = _free_port()
        command, variables = _commands(name, port, folder)
        command = [*program, *command[command.index("-H") :]] if program else command
        if sys.platform == "linux":
            command = [sys.executable, "-c", _BOUND, *command]
        log = folder / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                cwd=folder,
                env=environment(folder, variables),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        server = cls(name, f"http://127.0.0.1:{port}", process, log)
        try:
            server._wait()
        except BaseException:
            server.stop()
            raise
        return server

    def _wait(self) -> None:
        path = "/moto-api/" if self.name == "moto" else "/_ministack/health"

        def answers() -> bool:
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.name} ended:\n{self.log.read_text(errors='replace')[-4000:]}")
            try:
                urllib3.request("GET", self.url + path, timeout=5, retries=False)
            except urllib3.exceptions.HTTPError:
                return False
            return True

        wait_for(answers, f"{self.name} starts", _START_S)

    def stop(self) -> None:
        """Stop the process; its files stay in the test session's folder."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)

    def reset(self) -> None:
        """Delete all accounts."""
        path = "/moto-api/reset" if self.name == "moto" else "/_ministack/reset"
        answer = urllib3.request("POST", self.url + path, timeout=60, retries=False)
        assert answer.status == 200, answer.data

    def tidy(self) -> None:
        """Restart the emulator when there are many accounts; only valid while none is in use."""
        if self._made >= _MOST_ACCOUNTS:
            self.stop()
            fresh = Server.start(self.name, self.log.parent)
            self.url, self.process, self._made = fresh.url, fresh.process, 0

    def account(self) -> Emulator:
        """Return an empty account."""
        self._made += 1
        return Emulator(self, f"{100_000_000_000 + next(self._numbers)}")


@dataclass
class Emulator:
    """An account in an emulator, accessed with its root key."""

    server: Server
    account_id: str
    region: str = REGION
    _clients: dict[tuple[str, str], Any] = field(default_factory=dict)
    _credentials: list[Any] = field(default_factory=list)

    @property
    def name(self) -> Name:
        return self.server.name

    @property
    def url(self) -> str:
        return self.server.url

    @functools.cached_property
    def key(self) -> tuple[str, str]:
        """The access key of this account: moto finds an account by a key that was created in it."""
        if self.name != "moto":
            return self.account_id, _ROOT_SECRET
        client = self._created("iam", self.region, ("any", "any"))
        header = functools.partial(_add_account, account_id=self.account_id)
        client.meta.events.register("before-sign", header)
        client.create_user(UserName="root-of-the-test")
        made = client.create_access_key(UserName="root-of-the-test")["AccessKey"]
        return made["AccessKeyId"], made["SecretAccessKey"]

    def connection(self, **changes: Any) -> Connection:
        """Return the connection settings of this account for the code under test."""
        access_key, secret_key = self.key
        given = {"region": self.region, "access_key": access_key, "secret_key": secret_key, "endpoint_url": self.url}
        return Connection(**{**given, **changes})

    def session(self, **changes: Any) -> Session:
        return Session(self.connection(**changes))

    def client(self, service: str, region: str = "", key: tuple[str, str] | None = None) -> Any:
        """Return a client of the test itself, for manual edits and to read the real state."""
        place = (service, region or self.region)
        if key is not None:
            return self._created(*place, key)
        if place not in self._clients:
            self._clients[place] = self._created(*place, self.key)
            self._credentials.append(self._clients[place]._request_signer._credentials)
        return self._clients[place]

    def move(self, *others: Any) -> None:
        """Continue in a new account with the existing clients, which are slow to create.

        others: credentials of further clients to move.
        """
        self.account_id = self.server.account().account_id
        self.__dict__.pop("key", None)
        for credentials in (*self._credentials, *others):
            credentials.access_key, credentials.secret_key = self.key

    def _created(self, service: str, region: str, key: tuple[str, str]) -> Any:
        from botocore.config import Config

        session = botocore.session.Session()
        session.set_credentials(*key)
        # A test sees the first answer.
        config = Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}, max_pool_connections=20)
        return session.create_client(service, region_name=region, endpoint_url=self.url, config=config)

    def variables(self, folder: Path) -> dict[str, str]:
        """Return the environment variables with which a program uses this account."""
        given = {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_REGION": self.region,
            "AWS_ACCESS_KEY_ID": self.key[0],
            "AWS_SECRET_ACCESS_KEY": self.key[1],
        }
        return environment(folder, given)


@functools.cache
def shared_loader(path: str | None = None) -> Any:
    """Return one reader of botocore's service models for all sessions: each takes long to read."""
    return _create_loader(path)


_create_loader = botocore.loaders.create_loader


def _add_account(request: Any, account_id: str, **_event: Any) -> None:
    request.headers.add_header("x-moto-account-id", account_id)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _commands(name: Name, port: int, folder: Path) -> tuple[list[str], dict[str, str]]:
    if name == "moto":
        return (
            [sys.executable, str(Path(__file__).with_name("moto_program.py")), "-H", "127.0.0.1", "-p", str(port)],
            {
                # A cluster's role cannot be described without them.
                "MOTO_IAM_LOAD_MANAGED_POLICIES": "true",
                # It saves half a second of CPU time and 30 MB for each account, and no test reads an image.
                "MOTO_EC2_LOAD_DEFAULT_AMIS": "false",
            },
        )
    variables = {
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "MINISTACK_HOST": "127.0.0.1",
        "SFTP_ENABLED": "0",
        "IOT_MTLS_ENABLED": "0",
        "S3_DATA_DIR": str(folder / "s3"),
        "LOG_LEVEL": "WARNING",
        "AWS_SECRET_ACCESS_KEY": _ROOT_SECRET,
        # Signatures and IAM policies are enforced.
        "AUTH": "true" if name == "strict" else "false",
    }
    return [str(_BIN / "ministack")], variables
