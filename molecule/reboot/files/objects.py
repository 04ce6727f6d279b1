# SPDX-License-Identifier: GPL-3.0-or-later
"""Write objects one after the other and record the acknowledged ones, or read all recorded ones.

objects.py write FILE
objects.py read FOLDER
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

from crypto_lakehouse.objectstore import s3_client
from crypto_lakehouse.settings import Settings

BODY_BYTES = 16_384
PAUSE_S = 0.1


def write(noted: Path) -> None:
    """Write until this process is ended; only acknowledged objects are recorded."""
    settings = Settings()
    client = s3_client(settings, timeout_s=5.0, attempts=1)
    noted.parent.mkdir(mode=0o700, exist_ok=True)
    with noted.open("a", encoding="ascii") as file:
        while True:
            body = os.urandom(BODY_BYTES)
            digest = hashlib.sha256(body).hexdigest()
            key = f"acknowledged/{digest}"
            try:
                client.put_object(Bucket=settings.bronze_bucket, Key=key, Body=body)
            except (BotoCoreError, ClientError):
                time.sleep(PAUSE_S)
                continue
            print(key, digest, file=file, flush=True)
            time.sleep(PAUSE_S)


def read(folder: Path) -> int:
    """Print the number of objects in the records of a folder; return 1 when one of them is missing or differs."""
    settings = Settings()
    client = s3_client(settings, timeout_s=10.0)
    lost = []
    lines = [line for noted in folder.iterdir() for line in noted.read_text(encoding="ascii").splitlines()]
    for key, digest in map(str.split, lines):
        try:
            body = client.get_object(Bucket=settings.bronze_bucket, Key=key)["Body"].read()
        except (BotoCoreError, ClientError) as error:
            lost.append(f"{key}: {error}")
            continue
        if hashlib.sha256(body).hexdigest() != digest:
            lost.append(f"{key}: differs")
    print(f"{len(lines)} objects were acknowledged, {len(lost)} of them are lost", *lost, sep="\n")
    return int(bool(lost or not lines))


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write(Path(sys.argv[2]))
    sys.exit(read(Path(sys.argv[2])))
