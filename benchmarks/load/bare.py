"""What an answer costs at least: a FastAPI route without parameters, guard or thought that returns the same bytes.

`python -m benchmarks.load.bare PORT FILE` serves a file at /recommend, with uvicorn as the service has it.
"""

import sys
from pathlib import Path

import uvicorn
from fastapi import FastAPI, Response

from bandicoot_api.wire import SERVER_OPTIONS


def bare_app(body: bytes) -> FastAPI:
    """One route that always returns these bytes."""
    app = FastAPI()

    @app.get("/recommend")
    async def read() -> Response:
        return Response(body, media_type="application/json")

    return app


if __name__ == "__main__":
    uvicorn.run(
        bare_app(Path(sys.argv[2]).read_bytes()),
        host="127.0.0.1",
        port=int(sys.argv[1]),
        **SERVER_OPTIONS,
    )
