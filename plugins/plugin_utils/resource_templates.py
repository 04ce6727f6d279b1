# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Render templates of resources with Jinja and a cache: Ansible would compile each template in every run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Any

import jinja2
import yaml
from ansible import constants
from ansible.plugins.loader import filter_loader
from jinja2.filters import FILTERS
from jinja2.runtime import Context
from jinja2.utils import missing

from .kept_files import make_folder

Resolve = Callable[[Any], Any]


class TemplateFaultError(Exception):
    """A template that cannot be rendered, or is not a list of resources."""


class Filters(dict[str, Any]):
    """Ansible's filters, and those of Jinja that Ansible does not replace, loaded when a template uses them."""

    def __missing__(self, name: str) -> Any:
        try:
            found = filter_loader.get(name)
        except KeyError:
            found = None
        self[name] = FILTERS[name] if found is None else found.j2_function
        return self[name]

    def get(self, name: str, default: Any = None) -> Any:
        """Return a filter, or the default."""
        try:
            return self[name]
        except KeyError:
            return default


class VariablesContext(Context):
    """Names in a template; names that it does not set are variables, each resolved once."""

    def resolve_or_missing(self, key: str) -> Any:
        """Return a value, or the marker of a missing one."""
        found = super().resolve_or_missing(key)
        return self.environment.variable(key) if found is missing else found  # type: ignore[attr-defined]


class ResourceEnvironment(jinja2.Environment):
    """Renders templates of one folder with variables of Ansible."""

    context_class = VariablesContext

    def __init__(self, folder: Path, variables: Mapping[str, Any], resolve: Resolve) -> None:
        super().__init__(
            loader=jinja2.FileSystemLoader(folder),
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            autoescape=False,
            bytecode_cache=_bytecode_cache(),
        )
        self.filters = Filters()
        self._variables, self._resolve = variables, resolve
        self._resolved: dict[str, Any] = {}

    def variable(self, name: str) -> Any:
        """Return a variable, or the marker of a missing one."""
        if name not in self._variables:
            return missing
        if name not in self._resolved:
            self._resolved[name] = self._resolve(self._variables[name])
        return self._resolved[name]


def _bytecode_cache() -> jinja2.BytecodeCache | None:
    version = f"{jinja2.__version__}-{sys.implementation.cache_tag}"
    folder = Path(constants.config.get_config_value("ANSIBLE_HOME"), "crypto_lakehouse_templates", version)
    try:
        # The cache contains code and is not read from a folder that other users can write.
        return jinja2.FileSystemBytecodeCache(str(folder)) if make_folder(folder) else None
    except OSError:
        return None


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Loads YAML, and rejects a map with a duplicate key."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Return a map."""
        found: dict[Hashable, Any] = super().construct_mapping(node, deep=deep)
        if len(found) != len(node.value):
            raise yaml.constructor.ConstructorError(None, None, "a key of the map is not unique", node.start_mark)
        return found


def described(path: str, variables: Mapping[str, Any], resolve: Resolve) -> list[Any]:
    """Return the items of all documents of a rendered template. Raises TemplateFaultError.

    resolve: returns the value of a variable's expression.
    """
    file = Path(path)
    try:
        text = ResourceEnvironment(file.parent, variables, resolve).get_template(file.name).render()
        documents = list(yaml.load_all(text, Loader=_Loader))
    except (jinja2.TemplateError, yaml.YAMLError) as error:
        raise TemplateFaultError(str(error)) from error
    if not all(document is None or isinstance(document, list) for document in documents):
        raise TemplateFaultError("a document is not a list")
    return [item for document in documents for item in document or ()]
