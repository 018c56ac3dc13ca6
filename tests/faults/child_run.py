"""A piece of work in a process of its own that can be killed, and what it said when it ended.

The process is forked: its imports are done, and a fault comes after milliseconds, not seconds.
"""

import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from bandicoot_core.errors import BandicootError

_POLL_SECONDS = 0.005


@dataclass(frozen=True)
class Outcome:
    """How a process ended: killed, with an error, or well."""

    is_killed: bool = False
    error_class: str | None = None
    message: str = ""
    is_foreseen: bool = True
    """Whether the error is a BandicootError, whose message is made for the person who has to act."""
    trace: str = ""

    @property
    def is_success(self) -> bool:
        """Whether the work was done to its end."""
        return not self.is_killed and self.error_class is None


class ChildRun:
    """Work under way in a forked process, the leader of a session of its own."""

    def __init__(self, work: Callable[[], object]) -> None:
        reading, writing = os.pipe()
        self._reading = reading
        self.pid = os.fork()
        if self.pid == 0:
            os.close(reading)
            _work_and_leave(work, writing)
        os.close(writing)
        self._said: list[bytes] = []
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def kill(self) -> None:
        """End the process and what it started, without a chance to tidy up."""
        os.killpg(self.pid, signal.SIGKILL)

    def finish(self, *, kill_after: float | None = None, limit_seconds: float = 90) -> Outcome:
        """Wait for the end; after `kill_after` seconds bring it about. AssertionError when it hangs."""
        started = time.monotonic()
        is_killed = False
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                break
            seconds = time.monotonic() - started
            if kill_after is not None and not is_killed and seconds >= kill_after:
                self.kill()
                is_killed = True
            if seconds > limit_seconds:
                self.kill()
                os.waitpid(self.pid, 0)
                raise AssertionError(f"the run did not end within {limit_seconds} s")
            time.sleep(_POLL_SECONDS)
        if os.WIFSIGNALED(status):
            return Outcome(is_killed=True)
        self._listener.join()
        return Outcome(**json.loads(b"".join(self._said)))

    def _listen(self) -> None:
        while block := os.read(self._reading, 65_536):
            self._said.append(block)
        os.close(self._reading)


def _work_and_leave(work: Callable[[], object], writing: int) -> None:
    os.setsid()
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - the process ends without closing anything
    said: dict[str, object] = {}
    try:
        work()
    except BaseException as error:
        said = {
            "error_class": type(error).__name__,
            "message": str(error),
            "is_foreseen": isinstance(error, BandicootError),
            "trace": traceback.format_exc(),
        }
    finally:
        os.write(writing, json.dumps(said).encode()) if len(json.dumps(said)) < 65_536 else os.write(
            writing, json.dumps({**said, "trace": ""}).encode()[:65_000]
        )
        os._exit(0)
