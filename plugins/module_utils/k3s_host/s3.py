# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A bucket of S3 by the standard library alone, which is all that a host has: put, get, list and delete objects.

Requests are signed with Signature Version 4, https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-authenticating-requests.html
"""

from __future__ import annotations

import configparser
import hashlib
import hmac
import http.client
import time
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, urlsplit

from ..host.digests import sha256
from ..host.errors import HostError

LIMIT_S = 300.0
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
NOT_FOUND = 404
_REMEDY = "Check the `s3_*` keys of `k3s_snapshots` and the credentials of `k3s_snapshot_keys_file`."


@dataclass(frozen=True)
class Keys:
    """Credentials. No representation shows them."""

    access: str = field(repr=False)
    secret: str = field(repr=False)

    @classmethod
    def read(cls, path: Path) -> Keys:
        """Return the keys of the profile `default` of an AWS credentials file; raise `HostError` for another file."""
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read_string(path.read_text(encoding="utf-8"))
            found = parser["default"]
            return cls(found["aws_access_key_id"], found["aws_secret_access_key"])
        except (OSError, configparser.Error, KeyError, UnicodeDecodeError):
            raise HostError(
                f"cannot read {path}: it is not an AWS credentials file with the profile `default`. Set "
                "`k3s_snapshot_keys_file` to one."
            ) from None


@dataclass(frozen=True)
class Bucket:
    """A bucket, and the folder of it that holds the objects."""

    name: str
    keys: Keys
    endpoint: str = ""
    region: str = "us-east-1"
    folder: str = ""

    @property
    def url(self) -> str:
        """The URL of the bucket, in path style."""
        base = self.endpoint or f"https://s3.{self.region}.amazonaws.com"
        return f"{base.rstrip('/')}/{quote(self.name)}"

    def _key(self, name: str) -> str:
        return f"{self.folder.strip('/')}/{name}" if self.folder.strip("/") else name

    def put(self, name: str, path: Path) -> None:
        """Store a file; S3 compares its SHA-256 with the one that the request names."""
        digest = sha256(path)
        with path.open("rb") as file:
            self._request("PUT", self._key(name), digest=digest, body=file, size=path.stat().st_size)

    def get(self, name: str) -> bytes:
        """Return an object; raise `HostError`."""
        return self._request("GET", self._key(name))

    def delete(self, name: str) -> None:
        """Delete an object, whether it exists or not."""
        self._request("DELETE", self._key(name))

    def names(self) -> list[str]:
        """Return the names of the objects in the folder."""
        found, prefix, token = [], self._key(""), ""
        while True:
            query = {"list-type": "2", "prefix": prefix, **({"continuation-token": token} if token else {})}
            page = ET.fromstring(self._request("GET", "", query))  # noqa: S314 - of the bucket's own server
            found += [str(each.text)[len(prefix) :] for each in page.iterfind("{*}Contents/{*}Key")]
            token = page.findtext("{*}NextContinuationToken") or ""
            if not token:
                return found

    def _request(
        self,
        method: str,
        key: str,
        query: Mapping[str, str] | None = None,
        *,
        digest: str = EMPTY_SHA256,
        body: BinaryIO | None = None,
        size: int = 0,
    ) -> bytes:
        parts = urlsplit(self.url)
        path = f"{parts.path}/{quote(key, safe='/-_.~')}" if key else parts.path
        text = "&".join(
            f"{quote(name, safe='-_.~')}={quote(each, safe='-_.~')}" for name, each in sorted((query or {}).items())
        )
        moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        headers = {"host": parts.netloc, "x-amz-content-sha256": digest, "x-amz-date": moment}
        signed = {**headers, "Authorization": authorization(self.keys, self.region, method, path, text, headers)}
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(parts.netloc, timeout=LIMIT_S)
        try:
            connection.request(
                method, f"{path}?{text}" if text else path, body, {**signed, "Content-Length": str(size)}
            )
            answer = connection.getresponse()
            data = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise HostError(f"cannot reach {self.url}: {error}. {_REMEDY}") from None
        finally:
            connection.close()
        if answer.status // 100 != 2 and not (method == "DELETE" and answer.status == NOT_FOUND):
            raise HostError(f"cannot {method} {self.url}/{key}: {answer.status} {_code(data)}. {_REMEDY}")
        return data


def _code(data: bytes) -> str:
    try:
        return ET.fromstring(data).findtext("Code") or ""  # noqa: S314 - of the bucket's own server
    except ET.ParseError:
        return ""


def authorization(keys: Keys, region: str, method: str, path: str, query: str, headers: Mapping[str, str]) -> str:
    """Return the header `Authorization` of a request; path and query are quoted, names of headers in lower case."""
    names = ";".join(sorted(headers))
    listed = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
    request = "\n".join([method, path, query, listed, names, headers["x-amz-content-sha256"]])
    moment = headers["x-amz-date"]
    scope = f"{moment[:8]}/{region}/s3/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", moment, scope, hashlib.sha256(request.encode()).hexdigest()])
    key = f"AWS4{keys.secret}".encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    return f"AWS4-HMAC-SHA256 Credential={keys.access}/{scope}, SignedHeaders={names}, Signature={signature}"
