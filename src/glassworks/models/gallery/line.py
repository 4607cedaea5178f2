"""How this machine reaches addresses: through proxies, with the person's own certificates, or not at all."""

import base64
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any

from glassworks.core.errors import Unavailable
from glassworks.core.text import say

TIMEOUT_SECONDS = 30.0
# What a broken line looks like; urllib's own errors and timeouts are OSErrors.
BROKEN_LINE = (OSError, HTTPException)


@dataclass(frozen=True)
class Line:
    """`certificate` is a file of authorities to trust instead of the system's; offline, only files are opened."""

    certificate: str | None = None
    is_offline: bool = False

    def open(self, address: str, headers: Mapping[str, str] | None = None) -> Any:
        """The open answer of an address. Raises Unavailable offline, otherwise what urllib raises."""
        parts = urllib.parse.urlsplit(address)
        if self.is_offline and parts.scheme != "file":
            raise Unavailable(
                say("{address} is on the network, which --offline forbids", address=shown(address)),
                right=say("the same command without --offline"),
            )
        host = parts.netloc.rpartition("@")[2]
        request = urllib.request.Request(
            urllib.parse.urlunsplit(parts._replace(netloc=host, fragment="")),
            headers=dict(headers or {}) | _authorization(parts),
        )
        trusted = ssl.create_default_context(cafile=self.certificate) if parts.scheme == "https" else None
        try:
            return urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS, context=trusted)
        except urllib.error.HTTPError as refusal:
            # It holds the connection open as long as somebody holds the exception.
            refusal.close()
            raise


def unreachable(address: str, problem: Exception) -> Unavailable:
    """A failed line in one sentence."""
    match problem:
        case urllib.error.HTTPError():
            reason = f"HTTP {problem.code} {problem.reason}"
        case urllib.error.URLError():
            reason = str(problem.reason)
        case _:
            reason = str(problem) or type(problem).__name__
    return Unavailable(
        say("{address} cannot be reached: {reason}", address=shown(address), reason=reason),
        right=say("a connection to it; what was fetched so far is kept and the same command goes on from there"),
    )


def shown(address: str) -> str:
    """An address without name and password, fit to be shown and stored."""
    parts = urllib.parse.urlsplit(address)
    return urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment=""))


def _authorization(parts: urllib.parse.SplitResult) -> dict[str, str]:
    if parts.username is None:
        return {}
    pair = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
    return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
