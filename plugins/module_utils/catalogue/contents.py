# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the texts that the catalogue names: Jinja templates and files that are copied as they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .service import byte_count
from .words import Complaint


class ContentError(ValueError):
    """A text could not be had; `complaint` says why and what to do."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.complaint: Complaint = (message, remedy)


class Contents:
    """Texts below one folder: templates in ``templates/``, others as named. An absolute path is taken as it is."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)

    def source(self, path: str) -> str:
        """Return the text of a file; raise :class:`ContentError` when there is none."""
        full = self._folder / path
        try:
            return full.read_text(encoding="utf-8")
        except OSError as error:
            raise ContentError(f"{full}: {(error.strerror or str(error)).lower()}", "name a file that exists") from None
        except UnicodeDecodeError:
            raise ContentError(f"{full} is not UTF-8 text", "name a text file") from None

    def template(self, path: str, variables: Mapping[str, Any]) -> str:
        """Return a template filled with `variables`; an unknown variable is an error, as everything else that fails."""
        import jinja2

        full = self._folder / "templates" / path
        text = self.source(str(full))
        environment = jinja2.Environment(  # noqa: S701 - configuration files, not HTML
            loader=jinja2.FileSystemLoader(full.parent),
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            keep_trailing_newline=True,
        )
        environment.filters["bool"] = lambda value: str(value).lower() in ("true", "yes", "1")
        environment.filters["mebibytes"] = lambda value: byte_count(value) // 2**20
        # An expression of a template can fail in every way that Python knows.
        failures = (jinja2.TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
        try:
            return environment.from_string(text).render(variables)
        except failures as error:
            line = f", line {error.lineno}" if isinstance(error, jinja2.TemplateSyntaxError) else ""
            raise ContentError(f"{full}{line}: {error}", "correct the template, or what it is given") from None
