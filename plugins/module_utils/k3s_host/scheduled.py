# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Save a snapshot, verify it, copy it to S3, and delete expired ones: the program of each server's timer.

python3 -m ...k3s_host.scheduled FILE    FILE contains the cluster and the locations of K3s as JSON
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..host.errors import HostError, message_of
from ..k3s.model import ClusterSpec
from ..k3s.shapes import from_plain
from ..k3s.snapshots import expired, prefix
from .access import AccessError
from .mirror import Mirror, bucket_of
from .snapshots import Store


@dataclass(frozen=True)
class Job:
    """The timer's job: the cluster with its retention, the locations of K3s on this host, and the file of S3's keys."""

    cluster: ClusterSpec
    host: str
    binary: str = "/usr/local/bin/k3s"
    port: int = 6443
    keys: str = ""


def run(job: Job, now_s: float) -> list[str]:
    """Save, verify and delete. Return a line for each. Deletion requires that the new snapshot is verified."""
    store = Store(job.host, Path(job.cluster.data_dir), job.binary, job.port)
    saved = store.verify(store.save(f"{prefix(job.cluster)}scheduled").name)
    said = [f"saved and verified {saved.name}, {saved.size} bytes"]
    for old in expired(job.cluster, store.snapshots(), store.escrows(), now_s):
        store.delete(old.name)
        said.append(f"deleted {old.name}")
    return [*said, *(mirror(job, store, saved.name, now_s) if job.cluster.snapshots.s3_bucket else [])]


def mirror(job: Job, store: Store, name: str, now_s: float) -> list[str]:
    """Copy a snapshot to S3 and delete expired ones there; return a line for each."""
    copies = Mirror(store, bucket_of(job.cluster.snapshots, Path(job.keys)))
    copies.upload(name)
    said = [f"copied {name} to {copies.bucket.url}"]
    for old in expired(job.cluster, copies.snapshots(), copies.escrows(), now_s):
        copies.delete(old.name)
        said.append(f"deleted {old.name} of {copies.bucket.url}")
    return said


def main(words: Sequence[str]) -> int:
    """Run the job of a file; return the exit code."""
    try:
        job = from_plain(Job, json.loads(Path(words[0]).read_bytes()), "job")
        sys.stdout.write("".join(f"{line}\n" for line in run(job, time.time())))
    except (AccessError, HostError, OSError, ValueError, IndexError) as error:
        sys.stderr.write(f"{message_of(error)}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
