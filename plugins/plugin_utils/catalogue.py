# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The description of the platform in the role `catalogue`, as files of the controller."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml


def role_variables(role: Path) -> dict[str, Any]:
    """Return the variables in `vars/main.yml` of a role's folder, with their expressions as text."""
    text = (role / "vars" / "main.yml").read_text("utf-8")
    found: dict[str, Any] = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - both are safe
    return found


@dataclass(frozen=True)
class Catalogue:
    """The description of the platform, independent of target and environment."""

    services: Mapping[str, Any]
    secrets: Mapping[str, Any]
    settings: Mapping[str, Any]

    @classmethod
    def read(cls, folder: Path) -> Catalogue:
        """Return the description in a folder of the catalogue.

        As variables of the play, it would take longer in each task than reading it once.
        """
        found = role_variables(folder)
        return cls(found["catalogue_services"], found["catalogue_secrets"], found["catalogue_settings"])

    def with_given_secrets(self, names: Iterable[str]) -> Catalogue:
        """Return the description with other secrets of an inventory, for the services of the inventory."""
        others = {name: {"kind": "given"} for name in names if name not in self.secrets}
        return Catalogue(self.services, {**self.secrets, **others}, self.settings)
