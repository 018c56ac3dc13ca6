"""A real Redis of its own for a test, on a free loopback port and a Unix socket, with the ways to break it."""

import os
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import redis

from tests.servers.processes import free_port, private_folder, program

_START_SECONDS = 20


class RedisServer:
    """One redis-server in a folder; nothing it holds outlives its process."""

    def __init__(self, folder: Path, options: Sequence[str] = ()) -> None:
        self.folder = folder
        self.options = tuple(options)
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """URL over TCP."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def socket_url(self) -> str:
        """URL over the Unix socket."""
        return f"unix://{self.folder / 'redis.sock'}?db=0"

    @property
    def process_id(self) -> int:
        """Id of the server's process, to be watched or ended by a test."""
        assert self._process is not None, "the server is not running"
        return self._process.pid

    def start(self) -> None:
        """Start the server, empty, on its port, and wait until it answers."""
        command = [
            program("redis-server"),
            "--bind",
            "127.0.0.1",
            "--port",
            str(self.port),
            "--save",
            "",
            "--appendonly",
            "no",
        ]
        command += ["--dir", str(self.folder), "--unixsocket", str(self.folder / "redis.sock"), *self.options]
        log = (self.folder / "redis.log").open("ab")
        with log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                    return
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError((self.folder / "redis.log").read_text()) from None
                time.sleep(0.01)

    def kill(self) -> None:
        """End the server with SIGKILL, paused or not."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """Kill the server and start it again, empty, on the same port."""
        self.kill()
        self.start()

    def pause(self) -> None:
        """SIGSTOP: connections are still accepted by the kernel, but nothing is answered."""
        os.kill(self.process_id, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        os.kill(self.process_id, signal.SIGCONT)

    def client(self) -> redis.Redis:
        """A client with redis-py's defaults; the caller closes it."""
        return redis.Redis(port=self.port)

    def flush(self) -> None:
        """Remove every key."""
        with self.client() as client:
            client.flushall()

    def names(self) -> set[bytes]:
        """Name of every key there is."""
        with self.client() as client:
            return set(client.scan_iter(count=1000))

    def used_memory(self) -> int:
        """Bytes in use."""
        with self.client() as client:
            return int(client.info("memory")["used_memory"])

    def configure(self, **options: str) -> None:
        """CONFIG SET on the running server; underscores stand for hyphens."""
        with self.client() as client:
            for name, value in options.items():
                client.config_set(name.replace("_", "-"), value)


@contextmanager
def running_redis(*options: str) -> Iterator[RedisServer]:
    """A running server with further command-line options, such as "--maxmemory", "4mb"; gone at the end."""
    with private_folder("redis") as folder:
        server = RedisServer(folder, options)
        server.start()
        try:
            yield server
        finally:
            server.kill()


@contextmanager
def cut_after(server: RedisServer, n_bytes: int) -> Iterator[str]:
    """A URL through which a server can be reached until clients have sent so many bytes; then all is cut."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        proxy = _Cut(listening, server.port, n_bytes)
        thread = threading.Thread(target=proxy.run)
        thread.start()
        try:
            yield f"redis://127.0.0.1:{listening.getsockname()[1]}/0"
        finally:
            proxy.is_ended = True
            thread.join()


class _Cut:
    def __init__(self, listening: socket.socket, port: int, n_bytes: int) -> None:
        self.is_ended = False
        self._listening, self._port, self._n_left = listening, port, n_bytes

    def run(self) -> None:
        """Pass bytes on in both directions, in one thread."""
        ways: dict[socket.socket, socket.socket] = {}
        inner: set[socket.socket] = set()
        while not self.is_ended:
            readable, _, _ = select.select([self._listening, *ways], [], [], 0.01)
            for found in readable:
                if found is self._listening:
                    outside = found.accept()[0]
                    inside = socket.create_connection(("127.0.0.1", self._port))
                    ways |= {outside: inside, inside: outside}
                    inner.add(inside)
                elif found in ways:
                    data = found.recv(65_536)
                    if found not in inner:
                        data = data[: self._n_left]
                        self._n_left -= len(data)
                    if data:
                        ways[found].sendall(data)
                    else:
                        for end in (found, ways[found]):
                            del ways[end]
                            end.close()
            if self._n_left <= 0:
                break
        for end in ways:
            end.close()
        self._listening.close()
