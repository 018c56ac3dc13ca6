"""An emulator of S3 in a process of its own; unlike that of Cloud Storage it holds conditions on writes itself."""

import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.servers.gcs import free_port

BUCKET = "lake"


@contextmanager
def s3() -> Iterator[str]:
    """The address of a fresh emulator with an empty bucket BUCKET; ended on exit."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(600):
            assert process.poll() is None, f"the emulator of S3 ended with {process.returncode}"
            try:
                make = urllib.request.Request(f"{address}/{BUCKET}", method="PUT")  # noqa: S310 - our own address
                make.add_header("Authorization", "AWS4-HMAC-SHA256 Credential=k/20260101/us-east-1/s3/aws4_request")
                with urllib.request.urlopen(make, timeout=5):  # noqa: S310
                    break
            except OSError:
                time.sleep(0.05)
        yield address
    finally:
        process.kill()
        process.wait()


def options(address: str) -> dict[str, Any]:
    """How a UPath reaches an address that speaks S3's protocol."""
    return {"endpoint_url": address, "key": "k", "secret": "s", "client_kwargs": {"region_name": "us-east-1"}}
