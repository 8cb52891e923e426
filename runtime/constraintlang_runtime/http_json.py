"""One exchange of JSON with a server, over in a given time whatever the server does."""

from __future__ import annotations

import contextlib
import email.utils
import http.client
import json
import socket
import threading
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from constraintlang_runtime.errors import ConfigError

BUSY = (408, 425, 429, 500, 502, 503, 504)
LARGEST_REPLY = 64 << 20  # bytes


@dataclass(frozen=True)
class Reply:
    """What a server answered; ``retry_after`` in seconds where it names a time."""

    status: int
    text: str
    retry_after: float | None


def require_address(url: str, setting: str, key_variable: str) -> None:
    """Raise ConfigError for what is no address of a server, or holds a password."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ConfigError(f"{setting}: got {shown(url)!r}, expected an address such as http://localhost:8000")
    if parts.username is not None or parts.password is not None:
        raise ConfigError(
            f"{setting}: it holds a name or a password", help=f"put the key into the variable {key_variable}"
        )


def shown(url: str) -> str:
    """An address without what stands before its @."""
    return url.rpartition("@")[2]


def exchange(url: str, path: str, body: dict[str, Any] | None, *, timeout: float, key: str | None) -> Reply:
    """The reply to a GET, or to a POST when there is a body, within ``timeout`` seconds in all.

    Redirections are not followed. Raises: OSError, http.client.HTTPException.
    """
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    assert parts.hostname is not None
    connection = kind(parts.hostname, parts.port, timeout=timeout)
    headers = {"Content-Type": "application/json"}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    started = time.monotonic()
    late = threading.Event()
    try:
        connection.connect()
        sent = connection.sock
        # A time-out of the socket begins anew with every byte that drips in.
        timer = threading.Timer(max(0.0, timeout - (time.monotonic() - started)), _cut, (sent, late))
        timer.daemon = True
        timer.start()
        try:
            connection.request(
                "GET" if body is None else "POST",
                parts.path.rstrip("/") + path,
                None if body is None else json.dumps(body).encode(),
                headers,
            )
            reply = connection.getresponse()
            content = reply.read(LARGEST_REPLY)
            announced = reply.getheader("Content-Length") or ""
            if announced.isdigit() and len(content) < min(int(announced), LARGEST_REPLY):
                raise http.client.IncompleteRead(content)
        finally:
            timer.cancel()
        if late.is_set():
            raise TimeoutError("timed out")
        return Reply(
            reply.status, content.decode("utf-8", "replace"), _seconds(reply.getheader("Retry-After"))
        )
    except (OSError, http.client.HTTPException):
        if late.is_set():
            raise TimeoutError("timed out") from None
        raise
    finally:
        connection.close()


def _cut(connected: socket.socket, late: threading.Event) -> None:
    late.set()
    with contextlib.suppress(OSError):
        connected.shutdown(socket.SHUT_RDWR)


def _seconds(header: str | None) -> float | None:
    """Seconds, or those until a date."""
    if header is None:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


def parsed(text: str) -> Any:
    """JSON where it is one, else the text."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # ValueError also for an integer of more digits than Python reads
        return text


def first_line(text: str) -> str:
    """The message of an error, wherever the server puts it."""
    found = parsed(text)
    if isinstance(found, dict):
        inner = found.get("error", found)
        found = inner.get("message", inner) if isinstance(inner, dict) else inner
    lines = str(found).strip().splitlines()
    return lines[0][:300] if lines else "no message"
