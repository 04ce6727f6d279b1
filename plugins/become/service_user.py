# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: service_user
short_description: Run tasks of root as a service user without a login shell
version_added: 1.0.0
author:
  - The crypto_lakehouse.platform authors (@crypto-lakehouse)
description:
  - Runs the tasks of a connection as root as another user, with C(su) and C(/bin/sh).
  - C(su) asks root for no password. Modules and their arguments therefore go through the standard input, with the
    setting C(pipelining), where P(ansible.builtin.su#become) writes them to files that the other user can read.
options:
  become_user:
    description: Name of the service user.
    type: str
    required: true
    vars:
      - name: ansible_become_user
    keyword:
      - name: become_user
  become_exe:
    description: Path of C(su).
    type: str
    default: su
    vars:
      - name: lakehouse_su_exe
"""

import shlex

from ansible.plugins.become import BecomeBase


class BecomeModule(BecomeBase):
    """The program `su`, called by root."""

    name = "crypto_lakehouse.platform.service_user"
    pipelining = True

    def build_become_command(self, cmd: str, shell: object) -> str:
        """Return the command line that runs a command of the shell as the user."""
        super().build_become_command(cmd, shell)
        if not cmd:
            return cmd
        program, user = self.get_option("become_exe"), self.get_option("become_user")
        command = self._build_success_command(cmd, shell)
        return f"{program} -s /bin/sh {shlex.quote(user)} -c {shlex.quote(command)}"
