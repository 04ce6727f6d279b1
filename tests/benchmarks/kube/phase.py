# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the apply phase of the module, without reading the files and starting Python.

    python -m tests.benchmarks.kube.phase GIVEN

It reads a JSON file: the kubeconfig, the file of the objects, the field manager, whether to force conflicts, and
another revision, if any. It prints the seconds from the first request (discovery) to the last answer, the CPU seconds,
the number of requests, and the objects' results.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.apply.apply import Apply
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.apply.options import Options
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.client import Client
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.config import connection
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.discovery import Discovery
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.manifests.manifests import load
from tests.benchmarks.kube.objects import revised


def main() -> int:
    given = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    manifests = load([], [given["objects"]])
    if given["revision"]:
        manifests = [replace(one, content=revised(one.content, given["revision"])) for one in manifests]
    client = Client(connection({"kubeconfig": given["kubeconfig"]}))
    started_s, started_cpu_s = time.monotonic(), time.process_time()
    options = Options(field_manager=given["field_manager"], force_conflicts=given["force_conflicts"])
    outcome = Apply(client, Discovery(client), options).run(manifests)
    took_s, cpu_s = time.monotonic() - started_s, time.process_time() - started_cpu_s
    actions = Counter(result.action for result in outcome.objects)
    print(json.dumps({"phase_s": took_s, "phase_cpu_s": cpu_s, "calls": client.calls, "actions": actions}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
