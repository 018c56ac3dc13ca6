"""A TCP door to a server's Unix socket that can strike in the middle of a conversation.

Armed with a number of bytes, it passes exactly so many of one direction and then calls what it was given: cut every
connection, kill the server, end its sessions. Which fault that is belongs to the tests.
"""

import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Literal

Direction = Literal["to_server", "to_client"]

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class CuttingProxy:
    """Listens on a free port of 127.0.0.1 until closed; a context manager."""

    def __init__(self, target: Path) -> None:
        self._target = str(target)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.n_bytes: dict[Direction, int] = {"to_server": 0, "to_client": 0}
        self.has_struck = False
        self._lock = threading.Lock()
        self._armed: tuple[Direction, int, Callable[[], object]] | None = None
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> "CuttingProxy":
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        self.cut()

    def arm(self, direction: Direction, after_bytes: int, strike: Callable[[], object] | None = None) -> None:
        """Count from zero and, once so many bytes went that way, call `strike` (default: cut every connection)."""
        with self._lock:
            self.n_bytes = {"to_server": 0, "to_client": 0}
            self.has_struck = False
            self._armed = (direction, after_bytes, strike or self.cut)

    def cut(self) -> None:
        """Reset every open connection, without a goodbye."""
        with self._lock:
            sockets, self._sockets = self._sockets, []
        for each in sockets:
            with contextlib.suppress(OSError):
                if each.family == socket.AF_INET:
                    each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            try:
                server.connect(self._target)
            except OSError:
                client.close()
                continue
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._sockets += [client, server]
            for source, sink, direction in ((client, server, "to_server"), (server, client, "to_client")):
                threading.Thread(target=self._pump, args=(source, sink, direction), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, direction: Direction) -> None:
        with contextlib.suppress(OSError):
            while block := source.recv(16_384):
                n_before_strike, strike = self._count(direction, len(block))
                sink.sendall(block[:n_before_strike])
                if strike is not None:
                    strike()
                sink.sendall(block[n_before_strike:])
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _count(self, direction: Direction, n_arriving: int) -> tuple[int, Callable[[], object] | None]:
        """How many of the bytes pass before the strike, and the strike when this block brings it about."""
        with self._lock:
            n_passed = self.n_bytes[direction]
            self.n_bytes[direction] = n_passed + n_arriving
            if self._armed is None or self._armed[0] != direction or n_passed + n_arriving < self._armed[1]:
                return n_arriving, None
            _, after_bytes, strike = self._armed
            self._armed, self.has_struck = None, True
            return max(0, after_bytes - n_passed), strike
