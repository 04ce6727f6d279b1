# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find a usable Helm, or report where to get one."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from ..shared.problem import Problem

MINIMUM = (3, 14)
HOW_TO_GET = (
    "install it from https://helm.sh/docs/intro/install (one program without dependencies) to the search path, or set "
    "its path in `lakehouse_helm_binary`"
)
Run = Callable[[Sequence[str]], tuple[int, str, str]]


def helm_problems(run: Run, named: str) -> tuple[dict[str, str], list[Problem]]:
    """Return `path` and `version` of Helm, and its problems.

    named: the path in the inventory; if it is empty, the search path is used. run: of AnsibleModule.run_command.
    """
    path = str(Path(named).expanduser()) if named else shutil.which("helm")
    if not path or not os.access(path, os.X_OK):
        what = f"{named} is not a program" if named else "helm is not on the controller's search path"
        return {}, [Problem("lakehouse_helm_binary", what, HOW_TO_GET)]
    status, output, errors = run([path, "version", "--short"])
    found = re.search(r"v(\d+)\.(\d+)\.\d+", output)
    if status or not found:
        said = " ".join((errors or output).split())[:200] or "nothing"
        return {}, [Problem("lakehouse_helm_binary", f"{path} is not a working Helm: {said}", HOW_TO_GET)]
    if (int(found[1]), int(found[2])) < MINIMUM:
        message = f"{path} is Helm {found[0]}, and {'.'.join(map(str, MINIMUM))} is the oldest supported version"
        return {}, [Problem("lakehouse_helm_binary", message, HOW_TO_GET)]
    return {"path": path, "version": found[0]}, []
