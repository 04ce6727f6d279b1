# SPDX-License-Identifier: GPL-3.0-or-later
"""Objects from files, folders and data: all errors are reported together, with their locations."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.errors import (
    ManifestError,
    ManifestProblem,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.manifests.manifests import (
    Identity,
    Manifest,
    load,
)


def config_map(name: str = "settings", **metadata: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, **metadata}}


def problems(*manifests: Any, sources: tuple[str, ...] = ()) -> list[str]:
    with pytest.raises(ManifestError) as caught:
        load(manifests, sources)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("given_manifest", "words"),
    [
        (7, "manifests[0]: it is the number 7, not an object with apiVersion and kind"),
        ([[]], "manifests[0][0]: it is a list, not an object"),
        ("just a text", "manifests[0], document 1, line 1: it is the string 'just a text', not an object"),
        ({}, "manifests[0]: apiVersion is missing; give it as a string"),
        ({"apiVersion": "", "kind": "A"}, "apiVersion is empty; give it as a string"),
        ({"apiVersion": 1, "kind": "A"}, "apiVersion is the number 1; give it as a string"),
        ({"apiVersion": "v1", "kind": True}, "kind is the boolean true; give it as a string"),
        ({"apiVersion": "v1", "kind": "A"}, "metadata is missing; give it as a mapping with a name"),
        ({"apiVersion": "v1", "kind": "A", "metadata": []}, "metadata is a list; give it as a mapping"),
        ({"apiVersion": "v1", "kind": "A", "metadata": {}}, "A None: metadata.name is missing; give it as a string"),
        (config_map(7), "ConfigMap 7: metadata.name is the number 7; give it as a string"),  # type: ignore[arg-type]
        (config_map(""), "metadata.name is empty"),
        (config_map("", generateName="a-"), "generateName; set a name, which repeated applies require"),
        (config_map(namespace=12), "ConfigMap settings: metadata.namespace is the number 12; quote it"),
        (config_map(labels={"version": 1.5}), "metadata.labels.version is the number 1.5; quote it"),
        (config_map(annotations={"on": True}), "metadata.annotations.on is the boolean true; quote it"),
        (config_map(labels=["a"]), "metadata.labels is a list; give it as a mapping"),
        (
            {"apiVersion": "v1", "kind": "List", "items": [7]},
            "manifests[0], items[0]: it is the number 7, not an object",
        ),
        ({"apiVersion": "v1", "kind": "List", "items": [{}]}, "manifests[0], items[0]: apiVersion is missing"),
        ("a: [", "manifests[0], document 1, line 1: it is not YAML"),
    ],
)
def test_what_is_no_object_is_refused_with_its_place(given_manifest: object, words: str) -> None:
    assert words in "\n".join(problems(given_manifest))


def test_all_that_is_wrong_comes_at_once_and_in_order(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("a: [\n---\nkind: A\n---\napiVersion: v1\nkind: B\nmetadata: {name: 1}\n", encoding="utf-8")
    missing = tmp_path / "missing.yaml"

    with pytest.raises(ManifestError) as caught:
        load([config_map(""), config_map("a"), config_map("a")], [str(bad), str(missing)])
    text = str(caught.value).splitlines()
    assert text[0] == "7 problems in the manifests:"
    assert text[1].startswith("manifests[0]: ConfigMap : metadata.name is empty")
    assert text[2].startswith(f"{bad}, document 2, line 2: apiVersion is missing")
    assert any(line.startswith(f"{bad}, document 1, line 2: it is not YAML") for line in text)
    assert any(line == f"{missing}: it cannot be read: No such file or directory" for line in text)
    assert text[-1] == "manifests[2]: ConfigMap a (v1) was given before; see manifests[1]"


def test_one_problem_needs_no_heading() -> None:
    with pytest.raises(ManifestError, match=r"^manifests\[0\]: it is the number 7"):
        load([7])


@pytest.mark.parametrize(
    ("second", "is_same"),
    [
        (config_map("a", namespace="shop"), True),
        (config_map("a"), False),
        (config_map("b", namespace="shop"), False),
        ({**config_map("a", namespace="shop"), "kind": "Secret"}, False),
        ({**config_map("a", namespace="shop"), "apiVersion": "v2"}, True),
        ({**config_map("a", namespace="shop"), "apiVersion": "apps/v1"}, False),
    ],
)
def test_the_same_object_twice(second: dict[str, Any], is_same: bool) -> None:
    first = config_map("a", namespace="shop")
    if is_same:
        assert "was given before; see manifests[0]" in problems(first, second)[0]
    else:
        assert len(load([first, second])) == 2


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("missing.yaml", "missing.yaml: it cannot be read: No such file or directory; paths are relative to "),
        (
            "empty",
            "empty: there is no manifest; name a folder with files of *.json, *.yaml, *.yml; it is not recursive",
        ),
        ("empty/*.yaml", "empty/*.yaml: there is no manifest; no file matches this pattern"),
        ("https://example.org/a.yaml", "https://example.org/a.yaml: addresses are not fetched; download it"),
        ("latin.yaml", "latin.yaml: it is not UTF-8 text: invalid start byte at byte 3"),
    ],
)
def test_a_source_that_gives_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, words: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty" / "below").mkdir(parents=True)
    (tmp_path / "empty" / "readme.md").write_text("", encoding="utf-8")
    (tmp_path / "latin.yaml").write_bytes(b"a: \xfc")

    assert problems(sources=(source,))[0].startswith(words)


def test_files_of_folders_and_patterns_come_in_the_order_of_their_names_and_once(tmp_path: Path) -> None:
    for name in ("b.yml", "a.yaml", "c.json", "d.txt", "below/e.yaml", "[x].yaml"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(config_map(path.stem.strip("[]"))), encoding="utf-8")

    def names(*sources: str) -> list[str]:
        return [manifest.name for manifest in load(sources=[str(tmp_path / source) for source in sources])]

    assert names(".") == ["x", "a", "b", "c"]
    assert names("*.y*ml") == ["x", "a", "b"]
    assert names("**/*.yaml") == ["x", "a", "e"]
    assert names("[x].yaml") == ["x"]
    assert names("d.txt", "c.json") == ["d", "c"]
    assert names("a.yaml", ".", "a.yaml") == ["a", "x", "b", "c"]


def test_an_object_knows_where_it_comes_from(tmp_path: Path) -> None:
    path = tmp_path / "all.yaml"
    path.write_text(
        "# a comment\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: api, namespace: shop}\n",
        encoding="utf-8",
    )

    from_data, from_text, from_file = load([config_map("a"), json.dumps(config_map("b"))], [str(path)])
    assert from_data.source == "manifests[0]"
    assert from_text.source == "manifests[1], document 1, line 1"
    assert from_file.source == f"{path}, document 1, line 2"
    assert from_file.identity == Identity("apps/v1", "Deployment", "shop", "api")
    assert str(from_file.identity) == "Deployment shop/api (apps/v1)"
    assert str(from_data.identity) == "ConfigMap a (v1)"
    assert (from_file.identity.group, from_data.identity.group) == ("apps", "")


@pytest.mark.parametrize(
    "nothing", [None, "", "---\n# nothing\n", [], {"apiVersion": "v1", "kind": "List", "items": None}]
)
def test_nothing_is_nothing(nothing: object) -> None:
    assert load([nothing]) == []
    assert load() == []


def test_lists_are_taken_apart() -> None:
    listed = {"apiVersion": "v1", "kind": "List", "items": [config_map("a"), config_map("b")]}
    typed = {"apiVersion": "v1", "kind": "ConfigMapList", "metadata": {}, "items": [{"metadata": {"name": "c"}}]}
    nested = {"apiVersion": "v1", "kind": "List", "items": [typed]}

    found = load([listed, nested, [config_map("d")]])
    assert [(manifest.kind, manifest.api_version, manifest.name) for manifest in found] == [
        ("ConfigMap", "v1", name) for name in "abcd"
    ]
    assert found[2].source == "manifests[1], items[0], items[0]"
    assert found[3].source == "manifests[2][0]"


def test_a_kind_that_only_sounds_like_a_list_is_an_object() -> None:
    allow = {"apiVersion": "example.org/v1", "kind": "AllowList", "metadata": {"name": "a"}, "spec": {}}

    (found,) = load([allow])
    assert found == Manifest(allow, "manifests[0]")


def test_labels_without_a_value_are_left_to_the_server() -> None:
    assert load([config_map("a", labels={"a": None, "b": "c"}, annotations=None)])


@given(
    st.lists(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=5),
            lambda children: (
                st.lists(children, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["apiVersion", "kind", "metadata", "name", "namespace", "items", "labels", "a"]),
                    children | st.just("List"),
                    max_size=4,
                )
            ),
        ),
        max_size=3,
    )
)
@example([{"apiVersion": "v1", "kind": "List", "metadata": True}])
def test_whatever_is_given_ends_in_objects_or_in_problems(manifests: list[Any]) -> None:
    found: list[Manifest] = []
    wrong: tuple[ManifestProblem, ...] = ()
    try:
        found = load(manifests)
    except ManifestError as error:
        wrong = error.problems
    assert all(re.match(r"manifests\[\d\]", problem.source) for problem in wrong)
    assert all(manifest.name and manifest.kind and manifest.api_version for manifest in found)
