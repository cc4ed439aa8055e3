"""The host as two starlette apps: everything for the owner's socket, generation alone for a TCP listener.

It knows who may ask for what, and in what form; the work is the service's.
"""

from __future__ import annotations

import hmac
import json
import logging
import os
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ds4_backend import __version__, catalog
from ds4_backend.errors import DS4Error, EngineError, HostError, ModelError, NotInstalled, RequestError, UnknownModel
from ds4_backend.host.service import Lines, Service, resolved
from ds4_backend.host.stream import LineStream
from ds4_backend.host.wire import PROTOCOL, error_to, request_from

log = logging.getLogger(__name__)
MOST_BYTES = 64 << 20
"""The largest body: a million tokens of text are about 5 MB."""
HEADERS = {"ds4-protocol": str(PROTOCOL), "ds4-version": __version__}
Endpoint = Callable[[HttpRequest], Awaitable[Response]]
Find = Callable[[str], str]
"""From the model that a caller names to what the host holds it by. Raises ModelError."""


def owner_app(service: Service, find: Find = resolved) -> Starlette:
    """For the Unix socket: generation, status, unload, stop."""

    async def hello(call: HttpRequest) -> Response:
        return JSONResponse({"pid": os.getpid(), "stopping": service.stopping.is_set()})

    async def status(call: HttpRequest) -> Response:
        return JSONResponse(await service.status())

    async def unload(call: HttpRequest) -> Response:
        model = (await _body(call)).get("model")
        return JSONResponse({"unloaded": await service.residents.unload(find(model) if model else None)})

    async def stop(call: HttpRequest) -> Response:
        grace = (await _body(call)).get("grace")
        if isinstance(grace, bool) or not isinstance(grace, int | float):
            raise RequestError(f"grace is {grace!r}; it must be a number of seconds")
        service.stop(grace)
        return JSONResponse({"requests": len(service.answering)})

    return Starlette(
        routes=[
            Route("/hello", _guarded(hello), methods=["GET"]),
            Route("/status", _guarded(status), methods=["GET"]),
            Route("/models/unload", _guarded(unload), methods=["POST"]),
            Route("/stop", _guarded(stop, any_protocol=True), methods=["POST"]),
            *_generation(service, find, _guarded),
        ]
    )


def open_app(service: Service, token: str, find: Find = resolved) -> Starlette:
    """For a TCP listener: generation with the catalogue's models, for those who know `token`."""

    def guarded(endpoint: Endpoint) -> Endpoint:
        inner = _guarded(endpoint)

        async def with_token(call: HttpRequest) -> Response:
            given = call.headers.get("authorization", "").encode("latin-1", "replace")
            if not hmac.compare_digest(given, b"Bearer " + token.encode()):
                return _refusal(HostError("the token is missing or wrong; set DS4_BACKEND_TOKEN to the host's"), 401)
            return await inner(call)

        return with_token

    def named(model: str) -> str:
        if "/" in model or model.endswith(".gguf"):
            raise UnknownModel(f"{model} is a path; over TCP a model is asked for by its name")
        try:
            return find(model)
        except NotInstalled as error:  # its text names this machine's folders
            raise NotInstalled(f"{model} is not installed on the host's machine") from error

    async def models(call: HttpRequest) -> Response:
        return JSONResponse({"models": [entry.name for entry in catalog.models() if entry.path]})

    listing = Route("/models", guarded(models), methods=["GET"])
    return Starlette(routes=[listing, *_generation(service, named, guarded)])


def _generation(service: Service, find: Find, guard: Callable[[Endpoint], Endpoint]) -> list[Route]:
    def streamed(start: Callable[[str, dict[str, Any]], Lines], *keys: str) -> Endpoint:
        async def endpoint(call: HttpRequest) -> Response:
            if service.stopping.is_set():
                return _refusal(HostError("the host is stopping; ask again in a moment"), 503)
            body = await _body(call)
            if set(body) != {"model", *keys} or not isinstance(body["model"], str):
                raise RequestError(f"the body must hold {', '.join(('model', *keys))} and nothing else")
            lines = start(find(body["model"]), body)
            return LineStream(lines, service.answering, service.last_line())

        return endpoint

    endpoints = {
        "/load": streamed(lambda model, body: service.load(model)),
        "/chat": streamed(lambda model, body: service.chat(model, request_from(body["request"])), "request"),
        "/count_tokens": streamed(
            lambda model, body: service.count_tokens(model, request_from(body["request"])), "request"
        ),
    }
    return [Route(path, guard(endpoint), methods=["POST"]) for path, endpoint in endpoints.items()]


def _guarded(endpoint: Endpoint, any_protocol: bool = False) -> Endpoint:
    """`endpoint` for callers that speak this protocol; its errors are told as JSON.

    `any_protocol` is for what must work between all versions, for ever: to stop.
    """

    async def guarded(call: HttpRequest) -> Response:
        spoken = call.headers.get("ds4-protocol")
        if spoken != str(PROTOCOL) and not any_protocol:
            return _refusal(HostError(mismatch(spoken, call.headers.get("ds4-version"), PROTOCOL, __version__)), 426)
        try:
            response = await endpoint(call)
        except DS4Error as error:
            return _refusal(error, 404 if isinstance(error, ModelError) else 400)
        except Exception as error:
            log.exception("%s failed", call.url.path)
            return _refusal(EngineError(f"the host failed: {type(error).__name__}: {error}"), 500)
        response.headers.update(HEADERS)
        return response

    return guarded


def mismatch(caller: str | None, caller_version: str | None, host: int | str, host_version: str | None) -> str:
    """What a caller of another protocol is told."""
    return (
        f"the caller is ds4-backend {caller_version or 'of an unknown version'} (protocol {caller or 'unknown'}), the "
        f"running host is {host_version or 'of an unknown version'} (protocol {host}). Stop the host with "
        "`ds4-backend stop`, then ask again: a host of the caller's version is started"
    )


def _refusal(error: DS4Error, status: int) -> Response:
    return JSONResponse({"error": error_to(error)}, status_code=status, headers=HEADERS)


async def _body(call: HttpRequest) -> dict[str, Any]:
    parts, size = [], 0
    async for part in call.stream():
        parts.append(part)
        size += len(part)
        if size > MOST_BYTES:
            raise RequestError(f"the request is larger than {MOST_BYTES >> 20} MiB")
    try:
        body = json.loads(b"".join(parts) or b"{}")
    except (ValueError, RecursionError) as error:
        raise RequestError(f"the request is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise RequestError("the request is not a JSON object")
    return body
