"""The service behind a real port of this machine, for tests that bring an HTTP client of their own."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from bandicoot_api.wire import SERVER_OPTIONS


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """The address of an application that uvicorn serves in a thread of its own, with the settings of production."""
    config = uvicorn.Config(app, host="127.0.0.1", port=0, **SERVER_OPTIONS)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "uvicorn did not start"
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
