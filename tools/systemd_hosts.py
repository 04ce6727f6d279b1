# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts of tests with systemd as PID 1: containers of podman, from an image of the machine's own distribution.

    tools/systemd_hosts.py image                            prepare podman and .cache/hosts, once
    tools/systemd_hosts.py start FOLDER NETWORK NAME...     start hosts; NETWORK is what `network` returns
    tools/systemd_hosts.py restart FOLDER NETWORK NAME...   reboot hosts
    tools/systemd_hosts.py remove FOLDER                    remove every host of the folder

The hosts of a folder share a network and know each other by name; the first one has the address NETWORK.11. They are
reached by ssh as root, with the key in `.cache/hosts/ssh`. Storage, locks and networks of podman lie in the folder, so
that two runs on one machine share nothing and the machine's own containers are not touched.
"""

from __future__ import annotations

import argparse
import configparser
import contextlib
import hashlib
import json
import os
import resource
import shutil
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from tools.bootstrap import pip_settings, working_pip  # noqa: E402 - the program runs from any folder

CACHE = REPOSITORY / ".cache" / "hosts"
IMAGE = "localhost/crypto-lakehouse/systemd-host"
# By program, the packages that bring it.
PROGRAMS = {
    "podman": ("podman", "netavark", "iptables"),
    # crun, the other runtime, refuses control groups of version 1 beside some of version 2.
    "runc": ("runc",),
    "mmdebstrap": ("mmdebstrap",),
    "ssh": ("openssh-client",),
}
HOST_PACKAGES = (
    "ca-certificates",
    "dbus",
    "iproute2",
    "openssh-server",
    "procps",
    "python3",
    "systemd",
    "systemd-sysv",
)
# Timers, consoles and prompts that hosts of tests do not need.
MASKED_UNITS = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "getty.target",
    "systemd-firstboot.service",
)
# Users that a deployment creates in a host have numbers that are unused on the machine: a search for the processes of a
# user on the machine also finds those in containers.
USER_NUMBERS = {"SYS_UID_MIN": 58_000, "SYS_UID_MAX": 58_999, "SYS_GID_MIN": 58_000, "SYS_GID_MAX": 58_999}
SSHD = "UsePAM no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\nUseDNS no\n"
# A hardened unit needs the first two for its mount namespace. With the third, root sees files and environment of
# processes of other users.
CAPABILITIES = ("SYS_ADMIN", "MKNOD", "SYS_PTRACE")
# PID 1 of a host makes its own control groups writable: systemd's hierarchy of version 1, or all of version 2.
# podman's `--systemd` binds the machine's whole hierarchy of version 1 instead, so that hosts would share their groups.
START = """#!/bin/sh
groups=/sys/fs/cgroup
test -d $groups/systemd && groups=$groups/systemd
mount -o remount,bind,rw $groups && exec /sbin/init
"""
START_PATH = "usr/local/sbin/start-host"
TEMPORARY_FOLDERS = ("/run:mode=755", "/run/lock", "/tmp:mode=1777")  # noqa: S108 - folders of the host
# Settings of pip that the host role reads.
PIP_SETTINGS = ("index-url", "extra-index-url", "find-links", "cert")
CA_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
FIRST_ADDRESS = 11
SSH_PORT = 22
# A host that boots in seconds on a quiet machine takes minutes beside other hosts; after this long it hangs.
BOOT_LIMIT_S = 600.0
# sshd starts a process before it greets.
GREETING_LIMIT_S = 15.0
STOP_LIMIT_S = 200
PROCESSES = 32_768
POLL_S = 0.1


class HostsError(Exception):
    """Hosts cannot be prepared or started. The message contains a remedy."""


def network(number: int) -> str:
    """Return the first three parts of the addresses of a network of hosts; `number` is below 512."""
    return f"10.{188 + number // 256}.{number % 256}"


def run(command: Sequence[str], text: str = "", environment: Mapping[str, str] | None = None) -> str:
    """Run a program and return what it prints.

    Raises:
        HostsError: with its last lines when it fails.
    """
    done = subprocess.run(command, input=text, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()[-5:]
        said = "\n".join(lines) or f"exit code {done.returncode}"
        raise HostsError(f"cannot run `{' '.join(command[:2])}`: {said}")
    return done.stdout


@dataclass(frozen=True)
class Podman:
    """podman with everything that it keeps below a folder. `images` is the storage of another one, read only."""

    folder: Path
    images: Path | None = None

    def prepare(self, address: str = "") -> None:
        """Write its configuration, with the network `address` (see `network`)."""
        (self.folder / "networks").mkdir(parents=True, exist_ok=True)
        # podman asks for more than a process without SYS_RESOURCE may have, and the container does not start.
        files, processes = (resource.getrlimit(each)[1] for each in (resource.RLIMIT_NOFILE, resource.RLIMIT_NPROC))
        processes = PROCESSES if processes == resource.RLIM_INFINITY else min(processes, PROCESSES)
        limits = [f"nofile={files}:{files}", f"nproc={processes}:{processes}"]
        engine = {
            "cgroup_manager": "cgroupfs",
            "runtime": "runc",
            "events_logger": "none",
            # Locks in shared memory are common to the machine, and the first user resets them.
            "lock_type": "file",
            "tmp_dir": str(self.folder / "tmp"),
        }
        networks = {"network_backend": "netavark", "network_config_dir": str(self.folder / "networks")}
        containers = {"default_ulimits": limits, "log_driver": "k8s-file"}
        self._write("containers.conf", {"containers": containers, "engine": engine, "network": networks})
        storage = {
            "driver": "overlay",
            "graphroot": str(self.folder / "storage"),
            "runroot": str(self.folder / "run"),
        }
        options = {"additionalimagestores": [str(self.images / "storage")] if self.images else []}
        self._write("storage.conf", {"storage": storage, "storage.options": options})
        if address:
            path = self.folder / "networks" / f"{network_name(address)}.json"
            path.write_text(json.dumps(network_description(address)), encoding="utf-8")

    def _write(self, name: str, sections: Mapping[str, Mapping[str, object]]) -> None:
        lines: list[str] = []
        for section, settings in sections.items():
            # Strings and lists of strings are the same in TOML and in JSON.
            lines += [f"[{section}]", *(f"{key} = {json.dumps(value)}" for key, value in settings.items())]
        (self.folder / name).write_text("\n".join([*lines, ""]), encoding="utf-8")

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which podman finds its configuration."""
        return {
            "CONTAINERS_CONF": str(self.folder / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(self.folder / "storage.conf"),
        }

    def run(self, *arguments: str, text: str = "") -> str:
        """Run one command of podman."""
        return run(["podman", *arguments], text, {**os.environ, **self.environment})


def network_name(address: str) -> str:
    """Return the name of a network. netavark names a chain of iptables by it, which two networks must not share."""
    return f"hosts-{'-'.join(address.split('.')[1:])}"


def network_description(address: str) -> dict[str, object]:
    """Return the network of a folder as podman keeps it, with an interface that no other network has."""
    return {
        "name": network_name(address),
        "id": hashlib.sha256(address.encode()).hexdigest(),
        "driver": "bridge",
        "network_interface": f"lh-{'-'.join(address.split('.')[1:])}",
        "created": "2026-01-01T00:00:00Z",
        "subnets": [{"subnet": f"{address}.0/24", "gateway": f"{address}.1"}],
        "ipv6_enabled": False,
        "internal": False,
        "dns_enabled": False,
        "ipam_options": {"driver": "host-local"},
    }


def install_programs() -> None:
    """Install missing programs for starting hosts with apt.

    Raises:
        HostsError: when the user is not root, or apt cannot install them.
    """
    missing = [package for program, packages in PROGRAMS.items() if not shutil.which(program) for package in packages]
    command = ["apt-get", "install", "--yes", "--no-install-recommends", "--option=DPkg::Lock::Timeout=600", *missing]
    if os.geteuid() != 0:
        remedy = f"Run as root{f', or install them: {chr(32).join(command)}' if missing else ''}."
        raise HostsError(f"cannot start hosts with systemd: containers with a PID 1 need root. {remedy}")
    if not missing:
        return
    if not shutil.which("apt-get"):
        raise HostsError(f"cannot start hosts with systemd: {', '.join(missing)} and apt are missing. Install them.")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
    if not sources():
        run(["apt-get", "update", "--quiet"], environment=environment)
    try:
        run(command, environment=environment)
    except HostsError:
        # Lists that are too old name packages that are gone.
        run(["apt-get", "update", "--quiet"], environment=environment)
        run(command, environment=environment)


def distribution() -> dict[str, str]:
    """Return the words of /etc/os-release."""
    lines = Path("/etc/os-release").read_text(encoding="utf-8").splitlines()
    return {name: value.strip("\"'") for name, _equals, value in (line.partition("=") for line in lines)}


def sources() -> list[str]:
    """Return apt's sources of the distribution itself, a line each; empty when the lists were never read."""
    name = distribution()["ID"].capitalize()
    words = "deb $(REPO_URI) $(RELEASE) $(COMPONENT)"
    return sorted(
        set(run(["apt-get", "indextargets", "--format", words, "Created-By: Packages", f"Origin: {name}"]).splitlines())
    )


def prepare_image() -> None:
    """Install the programs, and create the key of ssh and the image below `.cache/hosts`.

    Raises:
        HostsError: when a program or a package cannot be had.
    """
    install_programs()
    system = distribution()
    keyring = Path(f"/usr/share/keyrings/{system['ID']}-archive-keyring.gpg")
    if not keyring.exists():
        raise HostsError(f"cannot create the image of hosts: {keyring} is missing. Install {keyring.stem}.")
    remove(CACHE)
    (CACHE / "ssh").mkdir(parents=True, mode=0o700)
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "tests", "-f", str(CACHE / "ssh/id_ed25519")])
    archive = CACHE / "root.tar"
    command = ["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", "--format=tar", f"--keyring={keyring}"]
    # A host without package lists asks its sources at each deployment, and a slow machine does so too slowly.
    command += ["--skip=cleanup/apt/lists", f"--include={','.join(HOST_PACKAGES)}"]
    command += [f"--aptopt={_aptopt(CACHE / 'apt.conf')}"]
    command += [f'--customize-hook="{sys.executable}" "{Path(__file__).resolve()}" customize "$1"']
    run([*command, system["VERSION_CODENAME"], str(archive), "-"], "\n".join([*sources(), ""]))
    podman = Podman(CACHE)
    podman.prepare()
    podman.run("import", "--quiet", str(archive), IMAGE)
    unmount_below(CACHE)
    archive.unlink()


def _aptopt(path: Path) -> Path:
    """Write the machine's way to its sources (proxies, authorities) as a file for the hosts' apt, and return it."""
    roots = ("Acquire::http", "Acquire::https", "Acquire::Check-Valid-Until")
    text = "".join(run(["apt-config", "dump", "--no-empty", root]) for root in roots)
    path.write_text(f'{text}Acquire::Retries "3";\nAcquire::Languages "none";\n', encoding="utf-8")
    return path


def customize(root: Path) -> None:
    """Change the files of a new image: logins, users and identities."""
    ssh = root / "root/.ssh"
    ssh.mkdir(exist_ok=True)
    ssh.chmod(0o700)
    (ssh / "authorized_keys").write_text((CACHE / "ssh/id_ed25519.pub").read_text(encoding="utf-8"), encoding="utf-8")
    (root / "etc/ssh/sshd_config.d/tests.conf").write_text(SSHD, encoding="utf-8")
    key = (root / "etc/ssh/ssh_host_ed25519_key.pub").read_text(encoding="utf-8")
    (CACHE / "ssh/known_hosts").write_text(f"* {key}", encoding="utf-8")
    for unit in MASKED_UNITS:
        path = root / "etc/systemd/system" / unit
        path.unlink(missing_ok=True)
        path.symlink_to("/dev/null")
    (root / START_PATH).write_text(START, encoding="utf-8")
    (root / START_PATH).chmod(0o755)
    # Each host creates its own; hosts with an empty file share one.
    (root / "etc/machine-id").unlink(missing_ok=True)
    definitions = root / "etc/login.defs"
    lines = definitions.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if line.partition(" ")[0].partition("\t")[0] not in USER_NUMBERS]
    numbers = [f"{name} {value}" for name, value in USER_NUMBERS.items()]
    definitions.write_text("\n".join([*kept, *numbers, ""]), encoding="utf-8")


def package_sources(settings: Mapping[str, str], environment: Mapping[str, str]) -> tuple[str, list[Path]]:
    """Return a pip.conf for hosts out of the machine's settings of pip, and the local paths that it names.

    An index on the disk is a folder beside the files that it links to, so that its parent counts.
    """
    chosen = {name: settings[name] for name in PIP_SETTINGS if name in settings}
    bundle = Path(environment.get("SSL_CERT_FILE") or chosen.get("cert") or CA_BUNDLE)
    paths = []
    if bundle.is_file():
        chosen["cert"] = str(bundle)
        paths = list({bundle, CA_BUNDLE} if CA_BUNDLE.is_file() else {bundle})
    for name in ("index-url", "extra-index-url", "find-links"):
        for word in chosen.get(name, "").split():
            path = Path(word.removeprefix("file://"))
            if path.is_absolute() and path.exists():
                parent = path.parent if name != "find-links" else path
                paths.append(parent if parent != Path("/") else path)
    parser = configparser.RawConfigParser()
    parser["global"] = chosen
    lines = ["[global]", *(f"{name} = {value}" for name, value in parser["global"].items())]
    return "\n".join([*lines, ""]), sorted(set(paths))


def start(folder: Path, address: str, names: Sequence[str]) -> dict[str, str]:
    """Start hosts of these names in one network; return the address of each once its ssh answers.

    Raises:
        HostsError: when a program or the image is missing, or one does not start.
    """
    install_programs()
    if not (CACHE / "storage").is_dir():
        raise HostsError(f"cannot start hosts with systemd: {CACHE} holds no image. Run `make hosts`.")
    podman = Podman(folder, CACHE)
    podman.prepare(address)
    pip = working_pip()
    text, paths = package_sources(pip_settings(pip) if pip else {}, os.environ)
    configuration = folder / "pip.conf"
    configuration.touch(mode=0o600)
    configuration.write_text(text, encoding="utf-8")
    mounts = [f"--volume={configuration}:/etc/pip.conf:ro", *(f"--volume={path}:{path}:ro" for path in paths)]
    hosts = {name: f"{address}.{number}" for number, name in enumerate(names, FIRST_ADDRESS)}
    known = [f"--add-host={name}:{ip}" for name, ip in hosts.items()]
    options = [
        f"--cap-add={','.join(CAPABILITIES)}",
        "--cgroupns=private",
        "--systemd=false",
        "--stop-signal=SIGRTMIN+3",
    ]
    options += [f"--tmpfs={folder}" for folder in TEMPORARY_FOLDERS]
    options += ["--security-opt=apparmor=unconfined", "--security-opt=label=disable"]
    for name, ip in hosts.items():
        own = [f"--name={name}", f"--hostname={name}", f"--network={network_name(address)}", f"--ip={ip}"]
        podman.run("run", "--detach", *own, *known, *options, *mounts, IMAGE, f"/{START_PATH}")
    for name, ip in hosts.items():
        _await_ssh(name, ip)
    return hosts


def restart(folder: Path, address: str, names: Sequence[str]) -> None:
    """Reboot hosts: systemd stops every unit, and a new one starts. Return once ssh answers."""
    podman = Podman(folder, CACHE)
    podman.run("restart", f"--time={STOP_LIMIT_S}", *names)
    for name in names:
        described = f'{{{{(index .NetworkSettings.Networks "{network_name(address)}").IPAddress}}}}'
        found = podman.run("inspect", f"--format={described}", name).strip()
        if not found.startswith(f"{address}."):
            raise HostsError(f"cannot reach {name}: it has the address {found or 'none'} after the restart")
        _await_ssh(name, found)


def _await_ssh(name: str, address: str) -> None:
    deadline_s = time.monotonic() + BOOT_LIMIT_S
    while time.monotonic() < deadline_s:
        with (
            contextlib.suppress(OSError),
            socket.create_connection((address, SSH_PORT), timeout=GREETING_LIMIT_S) as connection,
        ):
            if connection.recv(4) == b"SSH-":
                return
        time.sleep(POLL_S)
    raise HostsError(f"cannot reach {name}: ssh at {address} does not answer within {BOOT_LIMIT_S:.0f} s")


def remove(folder: Path) -> None:
    """Remove every host of a folder with the folder, in any state of an interrupted run.

    Links and folders of other users are skipped, because their content is not trusted.
    """
    try:
        found = folder.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        return
    if (folder / "storage.conf").exists() and shutil.which("podman"):
        podman = Podman(folder)
        networks = [path.stem for path in (folder / "networks").glob("*.json")]
        commands = [("rm", "--all", "--force", "--time=0"), *(("network", "rm", "--force", name) for name in networks)]
        for command in commands:
            with contextlib.suppress(HostsError):
                podman.run(*command)
    unmount_below(folder)
    shutil.rmtree(folder)


def unmount_below(folder: Path) -> None:
    """Unmount podman's mounts below a folder."""
    for path in reversed(list(mounts_below(folder))):
        run(["umount", "--lazy", str(path)])


def mounts_below(folder: Path) -> Iterator[Path]:
    """Yield the mount points below a folder, the oldest first, proc_pid_mountinfo(5)."""
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        path = Path(line.split()[4].encode().decode("unicode_escape"))
        if path != folder and path.is_relative_to(folder):
            yield path


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return 1 with a message when it fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("image")
    commands.add_parser("customize").add_argument("folder", type=Path)
    commands.add_parser("remove").add_argument("folder", type=Path)
    for name in ("start", "restart"):
        command = commands.add_parser(name)
        command.add_argument("folder", type=Path)
        command.add_argument("network")
        command.add_argument("names", nargs="+")
    options = parser.parse_args(arguments)
    try:
        match options.command:
            case "image":
                prepare_image()
            case "customize":
                customize(options.folder)
            case "remove":
                remove(options.folder)
            case "restart":
                restart(options.folder, options.network, options.names)
            case _:
                print(json.dumps(start(options.folder, options.network, options.names)))
    except (HostsError, OSError) as error:
        print(f"systemd_hosts: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
