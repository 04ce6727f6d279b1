# SPDX-License-Identifier: GPL-3.0-or-later
"""Signatures of S3 as botocore makes them, and files of keys."""

from __future__ import annotations

from pathlib import Path

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.errors import HostError
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s_host.s3 import (
    EMPTY_SHA256,
    Bucket,
    Keys,
    authorization,
)

KEYS = Keys("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
REQUESTS = [
    ("GET", "/lake", "list-type=2&prefix=folder%2F"),
    ("PUT", "/lake/folder/lake-k3s-on-demand-node1-1", ""),
    ("DELETE", "/lake/a%20b.json", ""),
]


@pytest.mark.parametrize(("method", "path", "query"), REQUESTS)
def test_requests_are_signed_as_botocore_signs_them(method: str, path: str, query: str) -> None:
    url = f"https://s3.example.org:9000{path}{f'?{query}' if query else ''}"
    request = AWSRequest(method, url, headers={"X-Amz-Content-SHA256": EMPTY_SHA256})
    S3SigV4Auth(Credentials(KEYS.access, KEYS.secret), "s3", "eu-central-1").add_auth(request)
    headers = {
        "host": "s3.example.org:9000",
        "x-amz-content-sha256": request.headers["X-Amz-Content-SHA256"],
        "x-amz-date": request.headers["X-Amz-Date"],
    }
    assert authorization(KEYS, "eu-central-1", method, path, query, headers) == request.headers["Authorization"]


def test_keys_are_those_of_the_default_profile(tmp_path: Path) -> None:
    path = tmp_path / "credentials"
    path.write_text("[default]\naws_access_key_id = one\naws_secret_access_key = t%wo\n[other]\n")
    assert Keys.read(path) == Keys("one", "t%wo")
    assert "t%wo" not in repr(Keys.read(path))
    for text in ("", "[other]\n", "[default]\naws_access_key_id = one\n", "secret"):
        path.write_text(text)
        with pytest.raises(HostError, match="k3s_snapshot_keys_file") as caught:
            Keys.read(path)
        assert "secret" not in str(caught.value)


def test_the_url_is_that_of_aws_or_of_another_service() -> None:
    assert Bucket("lake", KEYS, region="eu-west-1").url == "https://s3.eu-west-1.amazonaws.com/lake"
    assert Bucket("lake", KEYS, "http://10.0.0.1:9000/").url == "http://10.0.0.1:9000/lake"
