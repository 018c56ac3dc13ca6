"""How bytes become requests: what a connection may send before a request is one, and how long it may take for it.

Before a request's head is whole no guard can look at it, so that its size and time are bounded here. What is asked of
whole requests belongs to edge and guarded_route.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 64 * 1024
"""Bytes that are read of a head that has no end; a head in one piece may be as long as one piece is read."""

HEAD_SECONDS = 20.0
"""How long a head may take to arrive, from the connection's begin or its own."""


class BoundedHead(HttpToolsProtocol):
    """One connection, which ends when a request's line and headers do not."""

    head_seconds = HEAD_SECONDS
    _n_head_bytes = 0
    _is_in_head = False
    _until: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a head."""
        super().connection_made(transport)
        self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        """Read on, if the head may still be as long."""
        super().data_received(data)
        self._n_head_bytes = self._n_head_bytes + len(data) if self._is_in_head else 0
        if self._n_head_bytes > MAX_HEAD_BYTES:
            self.send_400_response(f"The head of a request may have {MAX_HEAD_BYTES} bytes.")

    def on_message_begin(self) -> None:
        """A head begins."""
        self._is_in_head = True
        self._wait_for_head()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """It is whole."""
        self._is_in_head = False
        self._wait_no_more()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for."""
        self._wait_no_more()
        super().connection_lost(exc)

    def _wait_for_head(self) -> None:
        if self._until is None:
            self._until = self.loop.call_later(self.head_seconds, self.transport.close)

    def _wait_no_more(self) -> None:
        if self._until is not None:
            self._until.cancel()
            self._until = None


SERVER_OPTIONS: dict[str, Any] = {
    "http": BoundedHead,
    "ws": "none",
    "log_config": None,
    "access_log": False,
    "server_header": False,
    # More than a balancer keeps an idle connection: it is never closed under a request.
    "timeout_keep_alive": 75,
    "timeout_graceful_shutdown": 10,
}
"""What uvicorn is told, besides an application and an address."""
