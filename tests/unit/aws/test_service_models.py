# SPDX-License-Identifier: GPL-3.0-or-later
"""The kept copy of botocore's data equals the data that botocore reads, and no other file replaces it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore.loaders import JSONFileLoader, Loader

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.registry import KINDS, kind_class
from ansible_collections.crypto_lakehouse.platform.plugins.plugin_utils import service_models
from ansible_collections.crypto_lakehouse.platform.plugins.plugin_utils.service_models import Kept, KeptLoader

SERVICES = sorted({"sts", *(kind_class(name).service for name in KINDS)})


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path / "home" / "models" / "1")


def _session(loader: Loader) -> botocore.session.Session:
    session = botocore.session.Session()
    session.set_credentials("key", "secret")
    session.register_component("data_loader", loader)
    return session


def _plain(shape: Any) -> str:
    return json.dumps(service_models.without_documentation(shape._shape_model))


def _description(loader: Loader, service: str) -> list[Any]:
    """Return the description of a service that a client gets, without the documentation."""
    client = _session(loader).create_client(service, region_name="eu-central-1")
    model = client.meta.service_model
    operations = [model.operation_model(name) for name in model.operation_names]
    return [
        client.meta.endpoint_url,
        client.meta.method_to_api_mapping,
        [operation.http for operation in operations],
        [_plain(model.shape_for(name)) for name in model.shape_names],
        [client.can_paginate(method) for method in client.meta.method_to_api_mapping],
    ]


@pytest.mark.parametrize("service", SERVICES)
def test_a_client_of_kept_data_is_that_of_botocores_own(service: str, kept: Kept) -> None:
    wanted = _description(Loader(), service)
    assert _description(KeptLoader(kept), service) == wanted
    assert _description(KeptLoader(kept), service) == wanted


def test_no_file_is_parsed_and_no_folder_listed_again(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    _session(KeptLoader(kept)).create_client("kms", region_name="eu-central-1").can_paginate("list_keys")
    monkeypatch.delattr(JSONFileLoader, "_load_file")
    monkeypatch.delattr(Loader, "list_available_services")
    _session(KeptLoader(kept)).create_client("kms", region_name="eu-central-1").can_paginate("list_keys")


def test_the_documentation_of_a_shape_is_empty_and_a_member_of_that_name_stays() -> None:
    shape = {"members": {"documentation": {"shape": "Text", "documentation": "..."}}, "required": ["documentation"]}
    emptied = {"members": {"documentation": {"shape": "Text", "documentation": ""}}, "required": ["documentation"]}
    assert service_models.without_documentation(shape) == emptied


def test_a_changed_file_is_read_again(kept: Kept, tmp_path: Path) -> None:
    source = tmp_path / "model"
    source.write_text("one")
    assert [kept.get("model", source, source.read_text) for _time in range(2)] == ["one", "one"]
    source.write_text("three")
    assert kept.get("model", source, source.read_text) == "three"


@pytest.mark.parametrize("spoilt", [b"", b"\0", b"{}"])
def test_a_broken_file_is_replaced(kept: Kept, tmp_path: Path, spoilt: bytes) -> None:
    source = tmp_path / "model"
    source.write_text("one")
    kept.get("model", source, source.read_text)
    next(kept.folder.iterdir()).write_bytes(spoilt)
    assert kept.get("model", source, source.read_text) == "one"
    assert kept.get("model", source, lambda: "kept again?") == "one"


def test_what_others_can_write_is_not_read(kept: Kept, tmp_path: Path) -> None:
    source = tmp_path / "model"
    source.write_text("one")
    kept.get("model", source, source.read_text)
    next(kept.folder.iterdir()).chmod(0o666)
    assert kept.get("model", source, lambda: "read") == "read"
    kept.folder.chmod(0o777)
    assert kept.get("model", source, lambda: "read again") == "read again"


def test_a_home_that_cannot_be_written_is_no_obstacle(tmp_path: Path) -> None:
    place = tmp_path / "file"
    place.write_text("not a folder")
    assert Kept(place / "models").get("model", place, place.read_text) == "not a folder"


def test_models_of_the_user_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DATA_PATH", str(tmp_path))
    session = botocore.session.Session()
    service_models.use_kept(session)
    assert str(tmp_path) in session.get_component("data_loader").search_paths
    monkeypatch.delenv("AWS_DATA_PATH")
    session = botocore.session.Session()
    service_models.use_kept(session)
    assert isinstance(session.get_component("data_loader"), KeptLoader)
    assert os.environ.get("AWS_DATA_PATH") is None
