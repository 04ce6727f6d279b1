# SPDX-License-Identifier: GPL-3.0-or-later
"""The catalog gets signed requests, and its answers are parsed for the only required value."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import services

from crypto_lakehouse.query.locate import CatalogError, GlueLocator, RestLocator, TableLocator, open_locator
from crypto_lakehouse.signing import KeySource, Signer, aws_endpoint

KEYS = {"LAKEHOUSE_S3_ACCESS_KEY": "access", "LAKEHOUSE_S3_SECRET_KEY": "secret"}
Handler = Callable[[httpx.Request], httpx.Response]


def glue(handler: Handler) -> tuple[TableLocator, httpx.AsyncClient]:
    signer = Signer(KeySource(services.settings_from(KEYS)), "glue", "eu-central-1")
    client = httpx.AsyncClient(transport=httpx.MockTransport(handler), auth=signer)
    return GlueLocator(client, "https://glue.eu-central-1.amazonaws.com/", read_metadata), client


async def read_metadata(address: str) -> bytes:
    return json.dumps({"table-uuid": f"uuid of {address}"}).encode()


def rest(handler: Handler) -> tuple[TableLocator, httpx.AsyncClient]:
    signer = Signer(KeySource(services.settings_from(KEYS)), "s3tables", "us-east-1")
    client = httpx.AsyncClient(transport=httpx.MockTransport(handler), auth=signer)
    return RestLocator(client, "http://catalog:8181", "s3://gold-tables"), client


def asked(locator: tuple[TableLocator, httpx.AsyncClient], call: Callable[[TableLocator], Any]) -> Any:
    async def ask() -> Any:
        async with locator[1]:
            return await call(locator[0])

    return asyncio.run(ask())


def glue_error(kind: str, status: int = 400) -> httpx.Response:
    return httpx.Response(status, json={"__type": kind, "Message": "no"})


@pytest.mark.parametrize(
    "response", [glue_error("AccessDeniedException"), httpx.Response(500), httpx.Response(200, json=[])]
)
def test_a_catalog_that_fails_is_not_a_missing_table(response: httpx.Response) -> None:
    for make in (glue, rest):
        with pytest.raises(CatalogError):
            asked(make(lambda _: response), lambda locator: locator.locate("ohlcv"))


def test_glue_gives_the_metadata_of_an_iceberg_table_and_none_for_others() -> None:
    requests: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        name = json.loads(request.content)["Name"]
        if name == "missing":
            return glue_error("EntityNotFoundException")
        parameters = {"metadata_location": "s3://gold/ohlcv/metadata/1.json"} if name == "ohlcv" else {}
        return httpx.Response(200, json={"Table": {"Name": name, "Parameters": parameters}})

    def locate(name: str) -> Any:
        return asked(glue(answer), lambda locator: locator.locate(name))

    found = [locate(name) for name in ("ohlcv", "hive", "missing")]
    assert [version and version.location for version in found] == ["s3://gold/ohlcv/metadata/1.json", None, None]
    assert found[0].uuid == "uuid of s3://gold/ohlcv/metadata/1.json"
    assert requests[0].headers["x-amz-target"] == "AWSGlue.GetTable"
    assert "/eu-central-1/glue/aws4_request" in requests[0].headers["authorization"]
    assert json.loads(requests[0].content) == {"DatabaseName": "gold", "Name": "ohlcv"}


def test_glue_lists_the_iceberg_tables_of_every_page() -> None:
    iceberg = {"metadata_location": "s3://gold/x"}
    pages = {
        None: {"TableList": [{"Name": "b", "Parameters": iceberg}, {"Name": "hive"}], "NextToken": "2"},
        "2": {"TableList": [{"Name": "a", "Parameters": iceberg}]},
    }

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=pages[json.loads(request.content).get("NextToken")])

    assert asked(glue(answer), lambda locator: locator.tables()) == ["a", "b"]
    assert asked(glue(lambda _: glue_error("EntityNotFoundException")), lambda locator: locator.tables()) == []


def test_a_rest_catalog_is_asked_under_its_prefix_with_escaped_names() -> None:
    paths: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        paths.append(request.url.raw_path.decode())
        assert "/us-east-1/s3tables/aws4_request" in request.headers["authorization"]
        if request.url.path == "/v1/config":
            return httpx.Response(200, json={"defaults": {"prefix": "lost"}, "overrides": {"prefix": "gold/tables"}})
        if "next-page" in str(request.url) or "pageToken" in str(request.url):
            return httpx.Response(200, json={"identifiers": [{"namespace": ["gold"], "name": "a"}]})
        if request.url.path.endswith("/tables"):
            page = {"identifiers": [{"namespace": ["gold"], "name": "b"}], "next-page-token": "x/y"}
            return httpx.Response(200, json=page)
        return httpx.Response(404, json={"error": {"code": 404}})

    assert asked(rest(answer), lambda locator: locator.locate("ohlcv")) is None
    assert asked(rest(answer), lambda locator: locator.tables()) == ["a", "b"]
    assert paths[:2] == [
        "/v1/config?warehouse=s3%3A%2F%2Fgold-tables",
        "/v1/gold%2Ftables/namespaces/gold/tables/ohlcv",
    ]
    assert paths[-1].endswith("/tables?pageToken=x%2Fy")


@pytest.mark.parametrize("name", ["a b", "50%", "%61", "../../ohlcv", "ohlcv?x", "a-b", "tabelle_ü", "a\n", "a" * 256])
def test_no_table_has_a_name_that_the_catalog_would_refuse(name: str) -> None:
    def refuse(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(403)

    assert asked(rest(refuse), lambda locator: locator.locate(name)) is None


@pytest.mark.parametrize("name", ["a\n", "a" * 256])
def test_no_table_of_glue_has_a_name_that_glue_would_refuse(name: str) -> None:
    refused = glue_error("InvalidInputException")
    assert asked(glue(lambda _: refused), lambda locator: locator.locate(name)) is None


def test_the_settings_choose_the_catalog() -> None:
    settings = services.settings_from({**KEYS, "LAKEHOUSE_CATALOG_TYPE": "glue", "LAKEHOUSE_S3_REGION": "cn-north-1"})
    locator, client = open_locator(settings, KeySource(settings), read_metadata)
    asyncio.run(client.aclose())
    assert isinstance(locator, GlueLocator)
    assert locator.endpoint == "https://glue.cn-north-1.amazonaws.com.cn/"
    assert aws_endpoint("s3", "eu-west-1") == "https://s3.eu-west-1.amazonaws.com"


def test_without_keys_the_default_chain_is_asked(clean_environment: pytest.MonkeyPatch) -> None:
    clean_environment.setenv("AWS_ACCESS_KEY_ID", "chain-access")
    clean_environment.setenv("AWS_SECRET_ACCESS_KEY", "chain-secret")
    clean_environment.setenv("AWS_SESSION_TOKEN", "chain-token")
    keys = asyncio.run(KeySource(services.settings_from({})).keys())
    assert (keys.access_key, keys.secret_key, keys.token) == ("chain-access", "chain-secret", "chain-token")
