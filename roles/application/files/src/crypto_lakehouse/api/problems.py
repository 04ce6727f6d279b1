# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors as `application/problem+json` (RFC 9457), without internal details of the service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

MEDIA_TYPE: Final = "application/problem+json"


class Problem(Exception):  # noqa: N818 - the word of RFC 9457
    """An error for the caller. `kind` is a stable identifier for programs."""

    def __init__(self, status: int, kind: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.detail = detail
        self.headers = dict(headers or {})


def problem_response(
    status: int, kind: str, detail: str, headers: Mapping[str, str] | None = None, **members: Any
) -> JSONResponse:
    """Return the answer for a problem; `members` are further members of the document."""
    document = {"type": f"urn:crypto-lakehouse:problem:{kind}", "title": HTTPStatus(status).phrase}
    content = {**document, "status": status, "detail": detail, **members}
    return JSONResponse(content, status_code=status, headers=dict(headers or {}), media_type=MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Return every error of `app` as a problem document."""
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)


async def _problem(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Problem)  # noqa: S101 - that is what it is registered for
    return problem_response(error.status, error.kind, error.detail, error.headers)


async def _invalid(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - that is what it is registered for
    found = [{"location": _location(item["loc"]), "message": str(item["msg"])} for item in error.errors()]
    return problem_response(422, "invalid-request", "the request is not as the API describes it", errors=found)


def _location(parts: Sequence[int | str]) -> str:
    return "/".join(str(part) for part in parts)


async def _http(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 - that is what it is registered for
    status = HTTPStatus(error.status_code)
    kind = status.name.lower().replace("_", "-")
    return problem_response(status, kind, status.description or status.phrase, error.headers)
