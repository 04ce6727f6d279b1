# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Load objects from files, folders, texts and data, each with its source."""

from __future__ import annotations

import functools
import glob
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..client.errors import ManifestError, ManifestProblem
from ..yaml.documents import Kept, read
from .names import api_faults, metadata_faults

SUFFIXES = (".json", ".yaml", ".yml")
_LIST = "List"


@dataclass(frozen=True, order=True)
class Identity:
    """Identity of an object. namespace: empty for cluster-wide objects, or for the default namespace of the run."""

    api_version: str
    kind: str
    namespace: str
    name: str

    @property
    def group(self) -> str:
        return self.api_version.rpartition("/")[0]

    def __str__(self) -> str:
        place = f"{self.namespace}/{self.name}" if self.namespace else self.name
        return f"{self.kind} {place} ({self.api_version})"


@dataclass(frozen=True)
class Manifest:
    """One object of the input. source: its place, as in 'api.yaml, document 3, line 40' or 'manifests[2]'."""

    content: Mapping[str, Any]
    source: str

    @property
    def api_version(self) -> str:
        return str(self.content["apiVersion"])

    @property
    def kind(self) -> str:
        return str(self.content["kind"])

    @property
    def name(self) -> str:
        return str(self.content["metadata"]["name"])

    @property
    def namespace(self) -> str:
        return str(self.content["metadata"].get("namespace") or "")

    @functools.cached_property
    def identity(self) -> Identity:
        return Identity(self.api_version, self.kind, self.namespace, self.name)


def load(manifests: Sequence[Any] = (), sources: Sequence[str] = (), kept: Kept | None = None) -> list[Manifest]:
    """Return the objects of `manifests` (data, or texts of YAML or JSON), followed by those of the files of `sources`.

    A source is a file, a folder (its *.yaml, *.yml and *.json files without subfolders, as in kubectl) or a pattern.
    kept: large custom resource definitions that earlier runs parsed. Lists are split into their items, and empty
    documents are omitted. Raises ManifestError with all problems.
    """
    problems: list[ManifestProblem] = []
    found: list[Manifest] = []
    for place, content in _contents(manifests, sources, problems, kept):
        for manifest in _flat(content, place, problems):
            wrong = list(_mistakes(manifest.content, manifest.source))
            problems += wrong
            if not wrong:
                found.append(manifest)
    problems += _repeated(found)
    if problems:
        raise ManifestError(problems)
    return found


def _contents(
    manifests: Sequence[Any], sources: Sequence[str], problems: list[ManifestProblem], kept: Kept | None
) -> Iterator[tuple[str, Any]]:
    for index, given in enumerate(manifests):
        place = f"manifests[{index}]"
        if isinstance(given, str):
            yield from _documents(given, place, problems, kept)
        elif isinstance(given, Sequence):
            yield from ((f"{place}[{number}]", content) for number, content in enumerate(given))
        elif given is not None:
            yield place, given
    for path in _files(sources, problems):
        text = _text(path, problems)
        if text is not None:
            yield from _documents(text, str(path), problems, kept, is_json=path.suffix == ".json")


def _documents(
    text: str, place: str, problems: list[ManifestProblem], kept: Kept | None, *, is_json: bool = False
) -> Iterator[tuple[str, Any]]:
    documents, faults = read(text, is_json=is_json, kept=kept)
    for document in documents:
        yield f"{place}, document {document.number}, line {document.line}", document.content
    problems += [
        ManifestProblem(f"{place}, document {fault.number}, line {fault.line}", fault.message) for fault in faults
    ]


def _files(sources: Sequence[str], problems: list[ManifestProblem]) -> list[Path]:
    found: list[Path] = []
    for source in sources:
        if "://" in source:
            problems.append(ManifestProblem(source, "addresses are not fetched", "download it, and name the file"))
            continue
        path = Path(source).expanduser()
        if path.is_dir():
            inside = sorted(child for child in path.iterdir() if child.suffix in SUFFIXES and child.is_file())
            remedy = (
                f"name a folder with files of {', '.join(f'*{suffix}' for suffix in SUFFIXES)}; it is not recursive"
            )
        elif path.exists() or not glob.has_magic(source):
            inside, remedy = [path], ""
        else:
            matches = sorted(map(Path, glob.glob(str(path), recursive=True)))  # noqa: PTH207 - it may be absolute
            inside, remedy = [match for match in matches if match.is_file()], "no file matches this pattern"
        if not inside:
            problems.append(ManifestProblem(source, "there is no manifest", remedy))
        found += inside
    return list(dict.fromkeys(found))


def _text(path: Path, problems: list[ManifestProblem]) -> str | None:
    try:
        return path.read_bytes().decode()
    except UnicodeDecodeError as error:
        problems.append(ManifestProblem(str(path), f"it is not UTF-8 text: {error.reason} at byte {error.start}"))
    except OSError as error:
        folder = "" if path.is_absolute() else f"; paths are relative to {Path.cwd()}"
        problems.append(ManifestProblem(str(path), f"it cannot be read: {error.strerror}{folder}"))
    return None


def _flat(content: Any, place: str, problems: list[ManifestProblem]) -> Iterator[Manifest]:
    """Yield the object, or the items of a list, which may omit the apiVersion and kind of the list."""
    if not isinstance(content, Mapping):
        problems.append(ManifestProblem(place, f"it is {_word(content)}, not an object with apiVersion and kind"))
        return
    kind, items, metadata = content.get("kind"), content.get("items"), content.get("metadata")
    if not (isinstance(kind, str) and kind.endswith(_LIST) and isinstance(items, Sequence | None)):
        yield Manifest(content, place)
        return
    if "items" not in content and isinstance(metadata, Mapping) and "name" in metadata:
        # A custom kind whose name happens to end in List.
        yield Manifest(content, place)
        return
    inherited = {} if kind == _LIST else {"apiVersion": content.get("apiVersion"), "kind": kind.removesuffix(_LIST)}
    for index, item in enumerate(items or ()):
        given = {**inherited, **item} if isinstance(item, Mapping) else item
        yield from _flat(given, f"{place}, items[{index}]", problems)


def _mistakes(content: Mapping[str, Any], place: str) -> Iterator[ManifestProblem]:
    """Yield problems that need no server: without these fields, an object has no address."""
    for name in ("apiVersion", "kind"):
        if not isinstance(content.get(name), str) or not content[name]:
            yield ManifestProblem(place, f"{name} is {_word(content.get(name))}", "give it as a string")
    metadata = content.get("metadata")
    if not isinstance(metadata, Mapping):
        yield ManifestProblem(place, f"metadata is {_word(metadata)}", "give it as a mapping with a name")
        return
    what = f"{content.get('kind')} {metadata.get('name')}: "
    if metadata.get("generateName") and not metadata.get("name"):
        yield ManifestProblem(place, f"{what}generateName", "set a name, which repeated applies require")
    elif not isinstance(metadata.get("name"), str) or not metadata["name"]:
        yield ManifestProblem(place, f"{what}metadata.name is {_word(metadata.get('name'))}", "give it as a string")
    yield from _metadata_mistakes(metadata, what, place)
    yield from _name_mistakes(content, metadata, place)


def _name_mistakes(content: Mapping[str, Any], metadata: Mapping[str, Any], place: str) -> Iterator[ManifestProblem]:
    api_version, kind = content.get("apiVersion"), content.get("kind")
    if isinstance(api_version, str) and api_version and isinstance(kind, str) and kind:
        for fault, remedy in (*api_faults(api_version, kind), *metadata_faults(api_version, kind, metadata)):
            yield ManifestProblem(place, f"cannot use {kind} {metadata.get('name')}: {fault}", remedy)


def _metadata_mistakes(metadata: Mapping[str, Any], what: str, place: str) -> Iterator[ManifestProblem]:
    namespace = metadata.get("namespace")
    if not isinstance(namespace, str | None):
        yield ManifestProblem(place, f"{what}metadata.namespace is {_word(namespace)}", "quote it")
    for field in ("labels", "annotations"):
        given = metadata.get(field)
        if not isinstance(given, Mapping | None):
            yield ManifestProblem(place, f"{what}metadata.{field} is {_word(given)}", "give it as a mapping")
            continue
        for key, value in (given or {}).items():
            if not isinstance(value, str | None):
                yield ManifestProblem(place, f"{what}metadata.{field}.{key} is {_word(value)}", "quote it")


def _word(value: Any) -> str:
    """Return the type of a value in terms of YAML."""
    if value is None:
        return "missing"
    if value == "":
        return "empty"
    if isinstance(value, bool):
        return f"the boolean {str(value).lower()}"
    if isinstance(value, int | float):
        return f"the number {value}"
    if isinstance(value, str):
        return f"the string {value[:60]!r}"
    return "a mapping" if isinstance(value, Mapping) else "a list"


def _repeated(manifests: Iterable[Manifest]) -> Iterator[ManifestProblem]:
    first: dict[tuple[str, str, str, str], str] = {}
    for manifest in manifests:
        identity = manifest.identity
        # Another version of the same group is the same object.
        key = (identity.group, identity.kind, identity.namespace, identity.name)
        if key in first:
            yield ManifestProblem(manifest.source, f"{identity} was given before", f"see {first[key]}")
        first.setdefault(key, manifest.source)
