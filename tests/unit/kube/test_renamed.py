# SPDX-License-Identifier: GPL-3.0-or-later
"""A renamed workload or volume that would leave its data behind is found, and other changes are not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.apply.renamed import renames
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.apply.volumes import Volume, described

DB = Volume("StatefulSet", "shop", "db", "data", "1Gi", images=("example.org/db",))
LOGS = replace(DB, template="logs")
OTHER = replace(DB, workload="store", images=("example.org/store",))
OPERATED = Volume("Cluster", "shop", "db", "", "1Gi")


def claim(name: str, volume: str = "pv", **labels: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "shop", "labels": labels}
    return {"metadata": metadata, "spec": {"volumeName": f"{volume}-{name}"} if volume else {}}


CLAIMS = [claim("data-db-0"), claim("data-db-1"), claim("logs-db-0")]
NAMED = replace(DB, workload="database")


@pytest.mark.parametrize(
    ("live", "wanted", "claims"),
    [
        pytest.param([DB], [replace(DB, size="2Gi")], CLAIMS, id="the same name"),
        pytest.param([], [NAMED], CLAIMS, id="nothing leaves"),
        pytest.param([DB], [], CLAIMS, id="nothing comes"),
        pytest.param([DB], [OTHER], CLAIMS, id="another image"),
        pytest.param([DB], [replace(NAMED, template="files")], CLAIMS, id="another volume of another workload"),
        pytest.param([DB], [replace(NAMED, namespace="other")], CLAIMS, id="another namespace"),
        pytest.param([DB], [replace(OPERATED, workload="database")], CLAIMS, id="another kind"),
        pytest.param([DB], [NAMED], [], id="no claims"),
        pytest.param([DB], [NAMED], [claim("data-db-0", volume="")], id="a claim without a volume"),
        pytest.param([DB], [NAMED], [*CLAIMS, claim("data-database-0")], id="claims of the new name"),
        pytest.param([DB], [DB, LOGS], CLAIMS[:2], id="a volume more"),
        pytest.param([DB, LOGS], [DB], CLAIMS, id="a volume less"),
    ],
)
def test_what_leaves_no_data_behind_is_not_renamed(live: list[Volume], wanted: list[Volume], claims: list[Any]) -> None:
    assert renames(live, wanted, claims) == []


def test_a_renamed_workload_takes_all_of_its_volumes_along() -> None:
    (found,) = renames([DB, LOGS], [NAMED, replace(LOGS, workload="database")], CLAIMS)

    assert [name for _claim, name in found.moves] == ["data-database-0", "data-database-1", "logs-database-0"]
    assert found.message.startswith("cannot rename StatefulSet db to database: ")
    assert "`kubectl -n shop delete statefulset db`" in found.remedy
    assert "`kubectl -n shop delete pvc data-db-0 data-db-1 logs-db-0`" in found.remedy
    assert found.remedy.count("claimRef") == len(found.moves)


def test_a_renamed_volume_is_moved_within_its_workload() -> None:
    (found,) = renames([DB, LOGS], [replace(DB, template="files"), LOGS], CLAIMS)

    assert found.names == ("data", "files")
    assert found.message.startswith("cannot rename volume data of StatefulSet db to files: ")
    assert [name for _claim, name in found.moves] == ["files-db-0", "files-db-1"]


def test_a_renamed_database_of_an_operator_is_restored() -> None:
    (found,) = renames(
        [OPERATED], [replace(OPERATED, workload="database")], [claim("db-1", **{"cnpg.io/cluster": "db"})]
    )

    assert "back up the data, run `kubectl -n shop delete clusters.postgresql.cnpg.io db`, run again" in found.remedy


@pytest.mark.parametrize(
    ("image", "repository"),
    [
        ("db:1.2", "db"),
        ("registry:5000/a/db", "registry:5000/a/db"),
        ("registry:5000/a/db:1@sha256:0f", "registry:5000/a/db"),
        ("a/db@sha256:0f", "a/db"),
    ],
)
def test_images_are_compared_without_their_versions(image: str, repository: str) -> None:
    spec = {
        "template": {"spec": {"containers": [{"image": image}]}},
        "volumeClaimTemplates": [{"metadata": {"name": "data"}}],
    }
    manifest = {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db"}, "spec": spec}

    (volume,) = described([manifest])

    assert volume.images == (repository,)
    assert Volume.of(volume.to_data()) == volume
