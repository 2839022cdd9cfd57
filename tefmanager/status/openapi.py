"""Describes ``/api/`` in the OpenAPI format, from the table of routes and their types."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import msgspec

from tefmanager import __version__
from tefmanager.status.api import LONGEST_NAME, MOST, ROUTES, Error, Parameter, Route
from tefmanager.status.view import Overview

_JSON = "application/json"

_ERRORS = {
    400: "The request is invalid",
    401: "The token is missing or wrong",
    403: "The manager has no token file, or the Host or Origin header is not allowed",
    404: "Not found",
    413: "The body is too long",
    503: "This manager is not the active one",
}


@cache
def openapi() -> bytes:
    """Return the description as JSON."""
    types = dict.fromkeys([*(route.result for route in ROUTES), Error, Overview])
    types.update(dict.fromkeys(route.body for route in ROUTES if route.body is not None))
    _, schemas = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        paths.setdefault(f"/api/{route.path}", {})[route.method.lower()] = _operation(route)
    paths["/api/stream"] = {"get": _stream()}
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "tef-manager",
                "version": __version__,
                "description": "The state of a tef-manager, and actions on it.",
            },
            "paths": paths,
            "components": {
                "schemas": schemas,
                "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            },
        }
    )


def _operation(route: Route) -> dict[str, Any]:
    found: dict[str, Any] = {
        "operationId": re.sub(r"\W+", "_", f"{route.method}_{route.path}").strip("_").lower(),
        "summary": route.text,
        "parameters": [
            *(_in_path(route, name) for name in re.findall(r"{(\w+)}", route.path)),
            *(_in_query(name, parameter) for name, parameter in route.query.items()),
        ],
        "responses": _responses(route),
    }
    if route.method == "POST":
        found["security"] = [{"token": []}]
    if route.body is not None:
        found["requestBody"] = {"required": True, "content": _content(route.body.__name__)}
    return found


def _responses(route: Route) -> dict[str, Any]:
    done = "202" if route.method == "POST" else "200"
    found: dict[str, Any] = {done: {"description": route.text, "content": _content(route.result.__name__)}}
    if route.path in ("health", "ready"):
        found["503"] = {
            "description": "The manager makes no progress, or is not ready",
            "content": _content(route.result.__name__),
        }
    wanted = (400, 401, 403, 404, 413, 503) if route.method == "POST" else (400, 404, 503)
    for status in wanted:
        found.setdefault(str(status), {"description": _ERRORS[status], "content": _content("Error")})
    return found


def _content(name: str) -> dict[str, Any]:
    return {_JSON: {"schema": {"$ref": f"#/components/schemas/{name}"}}}


def _in_path(route: Route, name: str) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": LONGEST_NAME}
    if name in route.choices:
        schema = {"type": "string", "enum": list(route.choices[name])}
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _in_query(name: str, parameter: Parameter) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": LONGEST_NAME}
    if parameter.choices:
        schema = {"type": "string", "enum": list(parameter.choices)}
    elif parameter.number:
        schema = {"type": "integer", "minimum": 1, "maximum": MOST}
    return {"name": name, "in": "query", "description": parameter.text, "schema": schema}


def _stream() -> dict[str, Any]:
    return {
        "operationId": "get_stream",
        "summary": "Server-sent events: an Overview once a second",
        "responses": {
            "200": {
                "description": "A stream that does not end",
                "content": {"text/event-stream": {"schema": {"type": "string"}}},
            },
            "503": {"description": "Too many viewers are connected", "content": _content("Error")},
        },
    }
