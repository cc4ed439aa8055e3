"""Calls to a host over its socket or over TCP: JSON in, JSON or lines of JSON out, sync and async.

Every call has a connection of its own, so that closing a call is seen by the host as the client leaving. It knows no
engine and starts no host.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ds4_backend import __version__
from ds4_backend.errors import HostError, RequestError, SettingsError
from ds4_backend.host.wire import PROTOCOL, error_from
from ds4_backend.settings.kinds import TOKEN

if TYPE_CHECKING:
    import httpx

CONNECT_SECONDS = 10.0
SILENCE_SECONDS = 120.0
"""A host says something every second; one that is silent this long is lost (a machine may swap)."""


class Unreachable(HostError):
    """Nobody listens there, or whoever does is about to end: nothing was done."""


class Lost(HostError):
    """The connection ended before the answer did."""


@dataclass(frozen=True, slots=True)
class Link:
    """The way to one host. `socket` None means TCP, where each call carries `token`."""

    address: str
    socket: Path | None = None
    token: str | None = field(default=None, repr=False)

    def lines(self, path: str, body: dict[str, Any]) -> Generator[dict[str, Any], None, None]:
        """POST `body`; the answer's lines. Raises Unreachable, Lost, or what the host refuses with."""
        import httpx

        transport = httpx.HTTPTransport(uds=str(self.socket), verify=False) if self.socket else None
        with (
            self._told(),
            httpx.Client(transport=transport, **self._options()) as client,
            client.stream("POST", path, content=_encoded(body)) as response,
        ):
            if response.status_code != 200:
                response.read()
            self._check(response)
            for text in response.iter_lines():
                yield json.loads(text)

    async def alines(self, path: str, body: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """`lines` for an event loop."""
        import httpx

        transport = httpx.AsyncHTTPTransport(uds=str(self.socket), verify=False) if self.socket else None
        with self._told():
            async with (
                httpx.AsyncClient(transport=transport, **self._options()) as client,
                client.stream("POST", path, content=_encoded(body)) as response,
            ):
                if response.status_code != 200:
                    await response.aread()
                self._check(response)
                async for text in response.aiter_lines():
                    yield json.loads(text)

    def call(self, path: str, body: dict[str, Any] | None = None, seconds: float = SILENCE_SECONDS) -> dict[str, Any]:
        """POST `body`, or GET without one; the answer, within `seconds`. Raises as `lines` does."""
        import httpx

        transport = httpx.HTTPTransport(uds=str(self.socket), verify=False) if self.socket else None
        with self._told(), httpx.Client(transport=transport, **self._options()) as client:
            method, content = ("GET", None) if body is None else ("POST", _encoded(body))
            response = client.request(method, path, content=content, timeout=seconds)
            self._check(response)
            found = response.json()
            assert isinstance(found, dict)
            return found

    def _options(self) -> dict[str, Any]:
        import httpx

        headers = {"content-type": "application/json", "ds4-protocol": str(PROTOCOL), "ds4-version": __version__}
        if self.token:
            headers["authorization"] = f"Bearer {self.token}"
        return {
            "base_url": "http://host" if self.socket else self.address,
            "headers": headers,
            "timeout": httpx.Timeout(SILENCE_SECONDS, connect=CONNECT_SECONDS),
            "trust_env": False,  # a proxy for the web is none for this
        }

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Trouble with the connection as errors of ours."""
        import httpx

        try:
            yield
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise Unreachable(f"no host answers at {self.address}: {error}") from error
        except httpx.TransportError as error:
            cause = str(error) or type(error).__name__
            raise Lost(f"the connection to the host at {self.address} was lost: {cause}") from error
        except json.JSONDecodeError as error:
            raise Lost(f"the host at {self.address} broke off in the middle of a line") from error

    def _check(self, response: httpx.Response) -> None:
        if response.headers.get("ds4-protocol") is None:
            raise HostError(f"what answers at {self.address} is no ds4-backend host (status {response.status_code})")
        if response.status_code == 200:
            return
        error = error_from(response.json().get("error"))
        raise Unreachable(str(error)) if response.status_code == 503 else error


def _encoded(body: dict[str, Any]) -> bytes:
    """As JSON. NaN and lone surrogates pass: the engine refuses them in its own words. Raises RequestError for what no
    JSON can hold."""
    try:
        return json.dumps(body, separators=(",", ":")).encode("ascii")
    except (TypeError, ValueError, RecursionError) as error:
        raise RequestError(f"the request is not JSON: {error}") from error


def link_to(address: str, token: str | None = None) -> Link:
    """The link for `unix:///path/of/socket` or `http://name:port`. Raises SettingsError for anything else, and for TCP
    without a token."""
    parts = urlsplit(address)
    if parts.scheme == "unix" and parts.path.startswith("/"):
        return Link(address, socket=Path(parts.path))
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise SettingsError(f"{address!r} is no host's address: unix:///path/of/socket or http://name:port")
    if not token:
        raise SettingsError(f"{address} asks for a token: set DS4_BACKEND_TOKEN to the one its host was started with")
    try:
        TOKEN.read(token)
    except ValueError:
        raise SettingsError(f"the token is not {TOKEN.allowed}") from None
    return Link(address.rstrip("/"), token=token)
