"""Dagster's code server as `dagster api grpc` starts it, but that the processes of its runs are forked.

Dagster starts a Python for each run, which imports everything: 8 s, fifty times in a fortnight. Here they are forked
from a server that has imported it already; each run is a process of its own all the same.

python -m tests.fortnight.code_server --port PORT
"""

import multiprocessing
import sys
from multiprocessing.context import BaseContext
from typing import Any

_CODE = "bandicoot_dagster.definitions"


def main() -> None:
    """Serve until it is ended."""
    original: Any = multiprocessing.get_context

    def forking(method: str | None = None) -> BaseContext:
        chosen: BaseContext = original("forkserver" if method == "spawn" else method)
        return chosen

    multiprocessing.get_context = forking  # type: ignore[assignment]
    multiprocessing.set_forkserver_preload([_CODE, "dagster._grpc.impl", "dagster._grpc.server"])
    sys.argv = ["dagster", "api", "grpc", "--host", "localhost", "--module-name", _CODE, *sys.argv[1:]]
    from dagster._cli import main as dagster

    dagster()


if __name__ == "__main__":
    main()
