# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find workloads and volumes that a description renames, and return the steps that move their data. Pure.

The name of a claim consists of the names of its volume and its workload, and the API cannot rename objects. Under
another name, a workload starts with empty volumes. The data stays on claims that no workload uses.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ..ready.verdict import Object, text
from .volumes import RESOURCES, Volume


@dataclass(frozen=True)
class Renamed:
    """A workload, or one volume of it, that is described under another name.

    moves: each claim of the former name that has a volume, with the name of the claim that replaces it.
    """

    former: Volume
    volume: Volume
    moves: tuple[tuple[Object, str], ...]

    @property
    def names(self) -> tuple[str, str]:
        """Return the former and the described name."""
        former, volume = self.former, self.volume
        if former.workload == volume.workload:
            return former.template, volume.template
        return former.workload, volume.workload

    @property
    def message(self) -> str:
        """Return the reason why nothing is renamed."""
        former, (before, after) = self.former, self.names
        what = f"{former.kind} {former.workload}"
        if former.workload == self.volume.workload:
            what = f"volume {before} of {what}"
        claims = ", ".join(text(claim, "metadata", "name") for claim, _name in self.moves)
        return f"cannot rename {what} to {after}: its data is on {claims}, and a volume claim keeps its name"

    @property
    def remedy(self) -> str:
        """Return the remedies: the former name, the data under the new name, empty volumes."""
        before, after = self.names
        commands = ", ".join(f"`{command}`" for command in _commands(self))
        move = f"run {commands} and run again"
        if self.former.kind != "StatefulSet":
            move = f"back up the data, run {commands}, run again, and restore the data"
        empty = f"remove {before} in a run of its own before {after} is added"
        return f"restore the name {before}; to keep the data, {move}; to start with empty volumes, {empty}"


def renames(live: Iterable[Volume], wanted: Iterable[Volume], claims: Iterable[Object]) -> list[Renamed]:
    """Return the renamed workloads and volumes whose data would stay behind.

    live: volumes of existing workloads that are described or about to be deleted.
    """
    has, wants = _by_name(live), _by_name(wanted)
    bound = [one for one in claims if text(one, "spec", "volumeName")]
    leaving = [volume for key, volume in has.items() if key not in wants]
    # An existing claim of the new name already has the data.
    coming = [volume for key, volume in wants.items() if key not in has and not any(map(volume.owns, bound))]
    found: dict[tuple[str, ...], Renamed] = {}
    for volume in coming:
        for former, moves in _former(volume, leaving, bound):
            rename = Renamed(former, volume, moves)
            key = (former.kind, former.namespace, former.workload, volume.workload, *rename.names)
            known = found.setdefault(key, replace(rename, moves=()))
            found[key] = replace(known, moves=(*known.moves, *moves))
    return list(found.values())


Move = tuple[tuple[Object, str], ...]


def _former(volume: Volume, leaving: Iterable[Volume], bound: Sequence[Object]) -> Iterator[tuple[Volume, Move]]:
    """Yield the former name of a volume with its claims, if there is one."""
    for former in leaving:
        kept = [one for one in bound if former.owns(one)] if _is_alike(former, volume) else []
        if kept:
            yield former, tuple((one, _successor(volume, one)) for one in kept)
            return


def _successor(volume: Volume, claim: Object) -> str:
    number = text(claim, "metadata", "name").rpartition("-")[2]
    return f"{volume.template}-{volume.workload}-{number}"


def _by_name(volumes: Iterable[Volume]) -> dict[tuple[str, str, str, str], Volume]:
    # A claim without a workload stays in its set until `prune_data` is set.
    workloads = [one for one in volumes if one.kind in RESOURCES]
    return {(one.kind, one.namespace, one.workload, one.template): one for one in workloads}


def _is_alike(former: Volume, volume: Volume) -> bool:
    """Return whether two volumes are the same under two names: of one workload, or of two that run the same image."""
    if (former.kind, former.namespace) != (volume.kind, volume.namespace):
        return False
    if former.workload == volume.workload:
        return True
    same_image = former.images == volume.images or bool(set(former.images) & set(volume.images))
    return former.template == volume.template and same_image


def _commands(found: Renamed) -> Iterator[str]:
    """Yield the commands that release the volumes, and bind those of a StatefulSet to claims of the new name."""
    former, place = found.former, f"kubectl -n {found.former.namespace} delete"
    delete = f"{place} {RESOURCES[former.kind]} {former.workload}"
    if former.kind != "StatefulSet":
        yield delete
        return
    yield _patch([_volume(claim) for claim, _name in found.moves], {"persistentVolumeReclaimPolicy": "Retain"})
    yield delete
    yield f"{place} pvc {' '.join(text(claim, 'metadata', 'name') for claim, _name in found.moves)}"
    for claim, name in found.moves:
        yield _patch([_volume(claim)], {"claimRef": {"name": name, "uid": None, "resourceVersion": None}})


def _volume(claim: Object) -> str:
    return text(claim, "spec", "volumeName")


def _patch(volumes: Sequence[str], spec: Mapping[str, object]) -> str:
    return f"kubectl patch pv {' '.join(volumes)} -p '{json.dumps({'spec': spec})}'"
