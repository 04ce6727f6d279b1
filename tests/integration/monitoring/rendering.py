# SPDX-License-Identifier: GPL-3.0-or-later
"""The template of Alertmanager's configuration as the catalogue renders it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2
from ansible.module_utils.parsing.convert_bool import boolean

TEMPLATES = Path(__file__).resolve().parents[3] / "roles" / "catalogue" / "templates"


def alertmanager_configuration(**settings: Any) -> str:
    environment = jinja2.Environment(  # noqa: S701  the output is YAML
        loader=jinja2.FileSystemLoader(TEMPLATES), trim_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["bool"] = boolean
    return environment.get_template("alertmanager.yml.j2").render(settings=settings)
