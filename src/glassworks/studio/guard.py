"""Who may come in: the right token, from a page of ours, to a name of this machine; and what every answer forbids.

Loopback alone protects nothing: any page that the person has open could ask 127.0.0.1, and a foreign name can be made to
point there (DNS rebinding). So each request needs a Host of ours, a token, and no Origin but ours; no CORS is granted.
"""

from __future__ import annotations

import hmac
import html
import json
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any
from urllib.parse import parse_qs

from glassworks.core.text import LANGUAGES, Language, say
from glassworks.studio.refusals import refusal

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

UNAUTHORISED, FORBIDDEN, TOO_LARGE, MISDIRECTED, TOO_MANY = 401, 403, 413, 421, 429
# A posted CSV, drawing or plan is far smaller; a larger body is refused before it is read.
MOST_BODY_BYTES = 8 << 20
# Requests of one second, over all tabs: fifty of them that load at once stay below, a loop that runs wild does not.
MOST_PER_SECOND = 1500
_STANDARD_PORT = 80
_EVERY_ADDRESS = ("0.0.0.0", "::")
_OPEN_TO_ALL = "/favicon.svg"
_OPEN_BELOW = "/assets/"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "font-src 'self'; connect-src 'self'; worker-src 'self'; frame-src 'self'; form-action 'none'; base-uri 'none'; "
    "frame-ancestors 'self'"
)
_HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"x-frame-options", b"SAMEORIGIN"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=()"),
)


@dataclass(frozen=True)
class Door:
    """What a request must bring: one of the hosts, the token."""

    token: str
    port: int
    hosts: frozenset[str]
    any_address: bool = False
    """Whether it listens on every address of the machine: then any address in numbers is one of its names."""

    @classmethod
    def of(cls, token: str, port: int, host: str) -> Door:
        """The door of a studio that listens on `host`."""
        names = {"127.0.0.1", "localhost", "[::1]", host if ":" not in host else f"[{host}]"}
        # Browsers leave the standard port out.
        ends = ("", f":{port}") if port == _STANDARD_PORT else (f":{port}",)
        hosts = frozenset(f"{name}{end}" for name in names for end in ends)
        return cls(token, port, hosts, host in _EVERY_ADDRESS)

    def _is_ours(self, host: str) -> bool:
        """A name is looked up, and whoever answers for it can point it here; a number is not, so it cannot be bent."""
        host = host.lower()
        if host in self.hosts:
            return True
        number, _, end = host.rpartition(":")
        if self.port == _STANDARD_PORT and not (end.isdecimal() and number):
            number, end = host, str(_STANDARD_PORT)
        return self.any_address and end == str(self.port) and _is_number(number)

    @property
    def cookie(self) -> str:
        """Cookies know no ports: two studios on one machine must not take each other's."""
        return f"glassworks-{self.port}"

    def refuses(self, scope: Scope) -> int | None:
        """The status with which a request is turned away, None for one that may come in."""
        # A header may come twice; then each of its values counts.
        headers: dict[bytes, list[str]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name, []).append(value.decode("latin-1"))
        hosts = headers.get(b"host", [])
        if not hosts or not all(map(self._is_ours, hosts)):
            return MISDIRECTED
        own = {f"http://{host.lower()}" for host in (*self.hosts, *hosts)}
        if any(one.lower() not in own for one in headers.get(b"origin", [])):
            return FORBIDDEN
        if any(one not in ("same-origin", "none") for one in headers.get(b"sec-fetch-site", [])):
            return FORBIDDEN
        if any(one.isdecimal() and int(one[:20]) > MOST_BODY_BYTES for one in headers.get(b"content-length", [])):
            return TOO_LARGE
        path: str = scope["path"]
        # The page of any other address hands out the cookie, so nothing beside these two may pass without a token.
        if path == _OPEN_TO_ALL or path.startswith(_OPEN_BELOW) or self._knows(scope, headers):
            return None
        return UNAUTHORISED

    def _knows(self, scope: Scope, headers: dict[bytes, list[str]]) -> bool:
        bearers = [one.removeprefix("Bearer ").strip() for one in headers.get(b"authorization", [])]
        named = parse_qs(scope["query_string"].decode("latin-1")).get("token", [])
        given = [*bearers, *named, *self._cookies(headers.get(b"cookie", []))]
        return any(hmac.compare_digest(one.encode(), self.token.encode()) for one in given if one)

    def _cookies(self, headers: list[str]) -> list[str]:
        """Every cookie of that name. Other programs of this machine set cookies too, some of which no parser takes."""
        pairs = (pair.strip().partition("=") for header in headers for pair in header.split(";"))
        return [value.strip().strip('"') for name, _, value in pairs if name.strip() == self.cookie]


def _is_number(name: str) -> bool:
    """Whether a host is an address in numbers: 192.168.0.7, [fe80::1]."""
    inside = name[1:-1] if name.startswith("[") and name.endswith("]") else name
    try:
        return ip_address(inside).version == (6 if inside != name else 4)
    except ValueError:
        return False


class Guard:
    """The outermost layer of the application: turns away, and adds to every answer what it forbids."""

    def __init__(self, app: App, door: Door, language: Language) -> None:
        self._app = app
        self._door = door
        self._language: Language = language
        self._second, self._seen = 0, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Lets a request in or answers it at once."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        status = self._door.refuses(scope) or self._too_many()
        if status is None:
            await self._app(scope, _limited(receive), _with_headers(send))
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": "not allowed"})
        else:
            await self._turn_away(status, scope, send)

    def _too_many(self) -> int | None:
        second = int(time.monotonic())
        self._seen = self._seen + 1 if second == self._second else 1
        self._second = second
        return TOO_MANY if self._seen > MOST_PER_SECOND else None

    async def _turn_away(self, status: int, scope: Scope, send: Send) -> None:
        said = {
            UNAUTHORISED: say("the studio's token is missing or wrong"),
            FORBIDDEN: say("this request comes from another page"),
            MISDIRECTED: say("this name is not the studio's"),
            TOO_LARGE: say("more than {count} bytes at a time", count=MOST_BODY_BYTES),
            TOO_MANY: say("more than {count} requests a second", count=MOST_PER_SECOND),
        }[status]
        at_the_door = say("the whole address that the studio printed when it started")
        right = {TOO_LARGE: say("a smaller file"), TOO_MANY: say("fewer pages, or a moment's patience")}.get(
            status, at_the_door
        )
        accepted = b"".join(value for name, value in scope["headers"] if name == b"accept")
        if b"text/html" in accepted:
            # A person with an old bookmark or a tab from before a restart: both languages, nothing to load.
            lines = "".join(
                f"<p>{html.escape(f'{said.in_language(one)}: {right.in_language(one)}')}</p>" for one in LANGUAGES
            )
            body, kind = f"<!doctype html><title>Glassworks</title>{lines}".encode(), b"text/html; charset=utf-8"
        else:
            error = refusal(status, said, self._language, right).error
            body, kind = json.dumps(error, ensure_ascii=False).encode(), b"application/json; charset=utf-8"
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", kind), *_HEADERS]})
        await send({"type": "http.response.body", "body": body})


def _limited(receive: Receive) -> Receive:
    """Counts a body that does not say its length; beyond the limit the rest is taken as a hang-up."""
    seen = 0

    async def counted() -> MutableMapping[str, Any]:
        nonlocal seen
        message = await receive()
        if message["type"] == "http.request":
            seen += len(message.get("body", b""))
            if seen > MOST_BODY_BYTES:
                return {"type": "http.disconnect"}
        return message

    return counted


def _with_headers(send: Send) -> Send:
    async def sending(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            own = {name for name, _ in message["headers"]}
            added = [(name, value) for name, value in _HEADERS if name not in own]
            message = {**message, "headers": [*message["headers"], *added]}
        await send(message)

    return sending
