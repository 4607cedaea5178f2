"""Runs the studio: takes a port, says its address as soon as it answers, ends politely."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import uvicorn

from glassworks.core.errors import Unavailable
from glassworks.core.text import say
from glassworks.studio.server import StudioOptions, create_app

# A frame from a browser is a few hundred bytes; painted points and a CSV are the largest.
MOST_SOCKET_BYTES = 2 << 20


def serve(options: StudioOptions, tell: Callable[[str], None]) -> None:
    """Serves until Ctrl-C; `tell` gets the whole address once a connection is taken."""
    listening = _listen(options.host, options.port)
    port = listening.getsockname()[1]
    app = create_app(options, port)
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, lifespan="on", ws="websockets-sansio", ws_max_size=MOST_SOCKET_BYTES,
        timeout_graceful_shutdown=2, server_header=False, date_header=False, ws_per_message_deflate=False,
    )  # fmt: skip
    shown = f"[{options.host}]" if ":" in options.host else options.host
    server = _Telling(config, lambda: tell(f"http://{shown}:{port}/?token={options.token}"))
    with listening:
        asyncio.run(server.serve(sockets=[listening]))


class _Telling(uvicorn.Server):
    """A server that says when it answers."""

    def __init__(self, config: uvicorn.Config, tell: Callable[[], None]) -> None:
        super().__init__(config)
        self._tell = tell

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Says the address once the sockets are taken."""
        await super().startup(sockets)
        if self.started:
            self._tell()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With its protocol named asyncio sends what there is at once; without, an answer in two pieces waits 40 ms for the second.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except (OSError, OverflowError) as problem:
        listening.close()
        raise Unavailable(
            say("port {port} of {host} cannot be taken: {reason}", port=port, host=host, reason=str(problem)),
            right=say("another port, or 0 for any that is free"),
            next_command="glassworks studio --port 0",
        ) from None
    listening.listen(128)
    listening.setblocking(False)
    return listening
