# SPDX-License-Identifier: GPL-3.0-or-later
"""A local connection that records its number of bytes in the file of `LAKEHOUSE_TEST_TRAFFIC`."""

from __future__ import annotations

import os
from pathlib import Path

from ansible.plugins.connection.local import Connection as LocalConnection

DOCUMENTATION = """
    name: measured
    short_description: Local connection that counts bytes
    description: Runs tasks on the controller and counts the bytes that it sends and receives.
    author: The crypto_lakehouse.platform authors
    options:
      become_success_timeout:
        description: Seconds to wait for become.
        type: int
        default: 10
        vars:
          - name: ansible_local_become_success_timeout
      become_strip_preamble:
        description: Whether the output of become is left out.
        type: bool
        default: true
        vars:
          - name: ansible_local_become_strip_preamble
    extends_documentation_fragment:
      - connection_pipelining
"""


class Connection(LocalConnection):  # type: ignore[misc] # ansible-core has no types
    """The local connection, measured."""

    transport = "measured"

    def exec_command(self, cmd: str, in_data: bytes | None = None, sudoable: bool = True) -> tuple[int, bytes, bytes]:
        """Run a command and count its input and output."""
        code, output, errors = super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        _count(len(cmd) + len(in_data or b"") + len(output) + len(errors))
        return code, output, errors

    def put_file(self, in_path: str, out_path: str) -> None:
        """Copy a file to the host and count it."""
        super().put_file(in_path, out_path)
        _count(Path(in_path).stat().st_size)

    def fetch_file(self, in_path: str, out_path: str) -> None:
        """Copy a file from the host and count it."""
        super().fetch_file(in_path, out_path)
        _count(Path(in_path).stat().st_size)


def _count(size: int) -> None:
    # Each task runs in a separate process; appending a short line is one write.
    with Path(os.environ["LAKEHOUSE_TEST_TRAFFIC"]).open("a", encoding="ascii") as file:
        file.write(f"{size}\n")
