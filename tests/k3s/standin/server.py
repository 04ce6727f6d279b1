# SPDX-License-Identifier: GPL-3.0-or-later
"""`k3s server`: the etcd member, the supervisor, and the processes behind them."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

from tests.k3s.standin import access, agent, controllers, files, snapshots
from tests.k3s.standin.api import SECRETS, Api, ApiError, Object, StandInApi
from tests.k3s.standin.bootstrap import Bootstrap
from tests.k3s.standin.common import FatalError, log, notify_ready, scaled, version, write_private
from tests.k3s.standin.etcd import Client, EtcdError, Member
from tests.k3s.standin.settings import Settings
from tests.k3s.standin.supervisor import Supervisor

NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
TEST_PAUSE_S, JOIN_PAUSE_S, WATCH_S, ADD_LIMIT_S = 5.0, 1.0, 60.0, 20.0
JOIN_RETRIES = ("too many learner members", "unhealthy cluster", "failed to get etcd MemberList")


class Server:
    """One run of a server."""

    def __init__(self, settings: Settings) -> None:
        settings.check()
        self.settings, self.folder, self.url = settings, settings.server_dir, settings.text("server")
        self.member = Member(self.folder, settings.node_name, settings.addresses[0])
        self.flag = self.folder / "db" / "reset-flag"
        self.bootstrap = Bootstrap(settings, self.member)
        self.control: controllers.Controllers | None = None

    def run(self) -> int:
        """Run until a signal ends it; return the exit code."""
        resets = self.settings.flag("cluster-reset")
        if resets:
            self._check_reset()
        log("info", f"Starting k3s {version()} (stand-in for tests: not K3s)")
        (self.folder / "manifests").mkdir(parents=True, exist_ok=True, mode=0o700)
        self._check_tombstone()
        try:
            self.bootstrap.prepare()
        except FatalError as error:
            raise FatalError(f"preparing server: failed to bootstrap cluster data: {error}") from error
        self.bootstrap.write_passwords()
        files.prepare(self.settings)
        if resets:
            return self._reset()
        supervisor = Supervisor(self.settings, self.member, self.bootstrap.text, self._snapshot)
        supervisor.start()
        self.bootstrap.write_tokens()
        restored = self.flag.exists()
        self.flag.unlink(missing_ok=True)
        self._start_member()
        self._wait_until_voter()
        self.bootstrap.save(self.member.client)
        supervisor.api = StandInApi(self.member.client)
        log("info", f"Kube API server is now running: {supervisor.api.name}")
        self._start_controllers(supervisor, supervisor.api, restored)
        while True:
            self._watch_member(WATCH_S)

    def _check_tombstone(self) -> None:
        """Move the data of a removed member away, so that it joins again."""
        data = self.member.data
        if (data / "tombstone").exists() and not self.url:
            raise FatalError(
                "tombstone file has been detected but --server is empty: backup and delete ${datadir}/server/db to "
                "create a new cluster, or set --server to rejoin"
            )
        if (data / "tombstone").exists():
            log("info", "tombstone file has been detected, removing ${datadir}/server/db to rejoin the cluster")
            data.rename(data.with_name(f"etcd-backup-{int(time.time())}"))

    def _start_member(self) -> None:
        if self.member.initialized:
            log("info", "Starting etcd for existing cluster member")
            self.member.start()
        elif self.bootstrap.access is None:
            log("info", "Starting etcd for new cluster, cluster-reset=false")
            self.member.start()
        else:
            self._join(self.bootstrap.access)

    def _join(self, server: access.Access) -> None:
        """Add this member as a learner, as soon as the cluster accepts it, and start it."""
        while True:
            try:
                cluster = self._add_member(server)
            except (EtcdError, access.RequestError) as error:
                said = f"{error} {getattr(error, 'body', '')}"
                if not any(text in said for text in JOIN_RETRIES):
                    raise FatalError(f"etcd cluster join failed: {said}") from error
                log("info", f"Waiting for other members to finish joining etcd cluster: {said}")
                time.sleep(JOIN_PAUSE_S)
            else:
                log("info", f"Starting etcd to join cluster with members {cluster}")
                return self.member.start(cluster=",".join(cluster), state="existing")

    def _add_member(self, server: access.Access) -> list[str]:
        """Return the initial cluster, with this member, which is added unless the cluster has it."""
        member, cluster, endpoints = self.member, {}, []
        for each in json.loads(server.get("/db/info"))["members"]:
            name, peer = each.get("name", ""), each["peerURLs"][0]
            if peer == member.peer_url and name in ("", member.name):
                name = member.name
            elif name.rpartition("-")[0] == self.settings.node_name:
                (member.data / "name").unlink(missing_ok=True)
                raise FatalError(
                    "etcd cluster join failed: duplicate node name found, please use a unique name for this node"
                )
            elif not each.get("isLearner"):
                endpoints += each.get("clientURLs", [])
            cluster[peer] = f"{name}={peer}"
        if member.peer_url not in cluster:
            endpoints.sort(key=lambda url: urlsplit(url).hostname != urlsplit(server.url).hostname)
            log("info", f"Adding member {member.name}={member.peer_url} to etcd cluster {list(cluster.values())}")
            change = {"peerURLs": [member.peer_url], "isLearner": True}
            Client(member.tls, endpoints[0]).call("cluster/member/add", change, ADD_LIMIT_S)
            cluster[member.peer_url] = f"{member.name}={member.peer_url}"
        return list(cluster.values())

    def _wait_until_voter(self) -> None:
        """Wait until the member is a voter of a cluster with a quorum, without a timeout."""
        while True:
            try:
                self.member.test()
            except EtcdError as error:
                log("info", f"Failed to test etcd connection: {error}")
                self._watch_member(scaled(TEST_PAUSE_S))
            else:
                return log("info", "etcd data store connection OK")

    def _watch_member(self, pause_s: float) -> None:
        """Wait; end the program when etcd has ended, with a tombstone when the member was removed."""
        assert self.member.process
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.member.process.wait(pause_s)
            if self._is_removed():
                (self.member.data / "tombstone").touch(0o600)
                log("info", "This node has been removed from the cluster - please restart k3s to rejoin the cluster")
            raise FatalError("etcd exited: server stopped")

    def _is_removed(self) -> bool:
        """Return whether another member answers and does not list this one."""
        answers = []
        for url in controllers.peers(self.folder):
            with contextlib.suppress(EtcdError):
                answers.append([each.get("name") for each in Client(self.member.tls, url).members()])
        return bool(answers) and not any(self.member.name in names for names in answers)

    def _start_controllers(self, supervisor: Supervisor, api: Api, restored: bool) -> None:
        for name in NAMESPACES:
            with contextlib.suppress(ApiError):
                api.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        if restored:
            with contextlib.suppress(ApiError):
                api.request("DELETE", f"{SECRETS}/{self.settings.node_name}.node-password.k3s")
        self.control = controllers.Controllers(api, self.member, self.settings)
        self.control.start()
        threading.Thread(target=self._run_agent, args=(supervisor,), daemon=True).start()

    def _run_agent(self, supervisor: Supervisor) -> None:
        own = f"https://127.0.0.1:{self.settings.text('https-listen-port')}"
        node = agent.Agent(self.settings, own, self.bootstrap.node_token, local=True)
        node.join()
        try:
            supervisor.ensure_secret(self.settings.node_name, node.password)
        except (ApiError, EtcdError) as error:
            log("warning", f"Deferred node password secret validation failed: {error}")
        log("info", "k3s is up and running")
        notify_ready()
        node.beat()

    def _snapshot(self, request: Object) -> Object:
        return snapshots.Snapshots(self.settings, self.member).answer(request)

    def _check_reset(self) -> None:
        """Raise FatalError for a reset that K3s refuses."""
        if self.url:
            raise FatalError(
                "cannot perform cluster-reset while server URL is set - remove server from configuration before "
                "resetting"
            )
        if self.settings.text("cluster-reset-restore-path"):
            if not self.settings.secret("token") and not (self.folder / "token").exists():
                raise FatalError(f"{self.folder}/token does not exist, please pass --token to complete the restoration")
        elif self.flag.exists():
            raise FatalError(
                "Managed etcd cluster membership was previously reset, please remove the cluster-reset flag and start "
                "k3s normally. If you need to perform another cluster reset, you must first manually delete the "
                f"{self.flag} file"
            )

    def _reset(self) -> int:
        """Make this member the only one, with its own data or that of a snapshot; return the exit code."""
        if path := self.settings.text("cluster-reset-restore-path"):
            self.member.restore(snapshots.unpack(Path(path), self.folder))
        self.member.rename()
        write_private(self.flag, "")
        log("info", "Starting etcd for new cluster, cluster-reset=true")
        self.member.start(reset=True)
        client = self.member.client
        self.member.wait_for(client)
        for each in client.members():
            client.call("cluster/member/update", {"ID": each["ID"], "peerURLs": [self.member.peer_url]})
        if (text := self.bootstrap.load(client)) is not None:
            backup = self.folder / f"tls-{int(time.time())}"
            log("info", f"Cluster reset: backing up certificates directory to {backup}")
            shutil.copytree(self.folder / "tls", backup)
            self.bootstrap.reconcile(text, replace=True)
            files.prepare(self.settings)
        self.member.stop()
        log(
            "info",
            "Managed etcd cluster membership has been reset, restart without --cluster-reset flag now. Backup and "
            "delete ${datadir}/server/db on each peer etcd server and rejoin the nodes",
        )
        return 0


def run(settings: Settings) -> NoReturn:
    """Run a server and exit."""
    server = Server(settings)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_arguments: sys.exit(0))
    try:
        sys.exit(server.run())
    finally:
        if server.control:
            server.control.stop()
        server.member.stop()
