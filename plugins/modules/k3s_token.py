# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Generate, read and write the tokens of a K3s cluster."""

from __future__ import annotations

DOCUMENTATION = r"""
module: k3s_token
short_description: Generate, read and write the tokens of a K3s cluster
version_added: "1.0.0"
description:
  - The server token and the agent token differ. Each is in a file of mode 0600.
  - Existing tokens are never replaced.
author:
  - The crypto_lakehouse.platform authors (@crypto-lakehouse)
options:
  state:
    description:
      - V(generated) writes the tokens of a new cluster on its first server. O(server) and O(agent) are used if set.
      - V(read) returns the tokens of a server. Set C(no_log) for the task.
      - V(present) writes O(server) and O(agent) on a host that joins.
    type: str
    choices: [generated, read, present]
    required: true
  server:
    description: Server token.
    type: str
  agent:
    description: Agent token.
    type: str
  ca_hash:
    description: Hash of the cluster's CA. A joining node rejects a server with another CA.
    type: str
    default: ""
  role:
    description: Role of the host. An agent does not receive the server token.
    type: str
    choices: [server, agent]
    default: server
  data_dir:
    description: Data directory of K3s, which also contains the tokens of a server.
    type: path
    default: /var/lib/rancher/k3s
  folder:
    description: Folder of the token files.
    type: path
    default: /etc/rancher/k3s
attributes:
  check_mode:
    support: full
    description: Writes nothing.
  diff_mode:
    support: none
    description: Tokens are not shown.
seealso:
  - module: crypto_lakehouse.platform.k3s_plan
"""

EXAMPLES = r"""
- name: Generate the tokens of a new cluster
  crypto_lakehouse.platform.k3s_token:
    state: generated
  become: true
"""

RETURN = r"""
server:
  description: Password of the server token.
  returned: with O(state=read)
  type: str
agent:
  description: Password of the agent token.
  returned: with O(state=read)
  type: str
ca_hash:
  description: Hash of the CA of the host's data directory.
  returned: with O(state=read)
  type: str
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.host.errors import HostError, message_of
from ..module_utils.k3s.tokens import same_secret, token_problems
from ..module_utils.k3s_host.files import read_data
from ..module_utils.k3s_host.writing import generate, holds, join_token, read_token, write
from ..module_utils.shared.problem import problem_list

ARGUMENT_SPEC = {
    "state": {"type": "str", "choices": ["generated", "read", "present"], "required": True},
    "server": {"type": "str", "no_log": True},
    "agent": {"type": "str", "no_log": True},
    "ca_hash": {"type": "str", "default": ""},
    "role": {"type": "str", "choices": ["server", "agent"], "default": "server"},
    "data_dir": {"type": "path", "default": "/var/lib/rancher/k3s"},
    "folder": {"type": "path", "default": "/etc/rancher/k3s"},
}


class Tokens:
    """The tokens of one host."""

    def __init__(self, given: dict[str, Any], *, check_mode: bool) -> None:
        self.given, self.check_mode = given, check_mode
        folder, own = Path(given["folder"]), Path(given["data_dir"]) / "server"
        self.server_file, self.agent_file = folder / "server-token", folder / "agent-token"
        self.server = read_token([self.server_file, own / "token"])
        self.agent = read_token([self.agent_file, own / "agent-token"])

    def generate(self) -> bool:
        """Write the tokens of a new cluster and return whether a file changed."""
        server = self._chosen("server", self.server)
        agent = self._chosen("agent", self.agent)
        problems = token_problems(server, agent)
        if problems:
            raise HostError(problem_list(problems))
        return self._write({self.server_file: server, self.agent_file: agent})

    def _chosen(self, name: str, existing: str) -> str:
        given = self.given[name] or ""
        if given and existing and not same_secret(given, existing):
            raise HostError(
                f"cannot replace the {name} token: the cluster has another one. Restore the former value of "
                f"`{'k3s_token' if name == 'server' else 'k3s_agent_token'}`."
            )
        return existing or given or generate()

    def place(self) -> bool:
        """Write the tokens of a host that joins and return whether a file changed."""
        digest, agent = self.given["ca_hash"], self.given["agent"] or ""
        if self.given["role"] == "agent":
            return self._write({self.agent_file: join_token(agent, "node", digest)})
        # A server compares the agent token of a node with this password only.
        server = join_token(self.given["server"] or "", "server", digest)
        return self._write({self.server_file: server, self.agent_file: agent})

    def _write(self, wanted: dict[Path, str]) -> bool:
        if not all(wanted.values()):
            raise HostError("cannot write the tokens: no server holds them. Restore them from the escrow.")
        pending = {path: text for path, text in wanted.items() if not holds(path, text)}
        for path, text in pending.items():
            if not self.check_mode:
                write(path, f"{text}\n")
        return bool(pending)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    tokens = Tokens(module.params, check_mode=module.check_mode)
    try:
        if module.params["state"] == "read":
            digest = read_data(Path("/"), module.params["data_dir"]).ca_hash
            module.exit_json(changed=False, server=tokens.server, agent=tokens.agent, ca_hash=digest)
        changed = tokens.generate() if module.params["state"] == "generated" else tokens.place()
    except (HostError, OSError) as error:
        module.fail_json(msg=message_of(error))
        return
    module.exit_json(changed=changed)


if __name__ == "__main__":
    main()
