"""Dagster's daemon as `dagster-daemon run` starts it, but for its pauses: they end by the clock that the test moves.

Dagster's loops wait for a minute, or for some seconds, by the monotonic clock; a test that moves the wall clock on by
an hour would have to wait for them all the same. Beside that each loop says while it pauses when its last turn began,
so that the test knows that everything has been looked at since the clock was moved.

python -m tests.fortnight.daemon FOLDER -w WORKSPACE
"""

import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

_LOOK_SECONDS = 0.05


class PauseByWallClock(threading.Event):
    """An event whose wait lasts until the wall clock has moved on by so much, whatever moved it."""

    folder = Path()

    def __init__(self) -> None:
        super().__init__()
        self._born_at = time.time()
        self._woke_at: dict[str, float] = {}

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the event, or for the wall clock."""
        began = time.time()
        thread = threading.current_thread().name
        self._say(thread, self._woke_at.get(thread, self._born_at))
        while not self.is_set() and (timeout is None or time.time() < began + timeout):
            super().wait(_LOOK_SECONDS)
        self._woke_at[thread] = time.time()
        (self.folder / thread).unlink()
        return self.is_set()

    def _say(self, thread: str, turn_began: float) -> None:
        """Note that a pause has begun, and when the turn before it began (Unix time), or an earlier one at least."""
        arriving = self.folder / f".{thread}"
        arriving.write_text(repr(turn_began))
        arriving.replace(self.folder / thread)


def main() -> None:
    """Run the daemon until it is ended."""
    from dagster._daemon import controller
    from dagster._daemon.cli import run_command

    PauseByWallClock.folder = Path(sys.argv.pop(1))
    controller.threading = SimpleNamespace(Event=PauseByWallClock, Thread=threading.Thread)  # type: ignore[attr-defined]
    run_command()


if __name__ == "__main__":
    main()
