"""A clock that the test sets, for real processes: their wall clock is the machine's, moved by what the test says.

It goes on at the usual pace; setting it moves every process that was started with `environment` at once, the servers'
included. Waits and timeouts take as long as ever. The C side is moved_clock.c, compiled once for a test.

Debian's libfaketime would do the same, but 0.9.10 makes time.sleep of Python 3.11 fail as soon as it is told to leave
the monotonic clock alone.
"""

import struct
import subprocess
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.servers.processes import give_away, program

_SOURCE = Path(__file__).with_name("moved_clock.c")
_FORMAT = "=q"


class MovedClock:
    """The time that the processes of a test live in; it never goes back once it was set."""

    def __init__(self, folder: Path, moment: datetime) -> None:
        """Compile into a folder that every process may read, and begin at an aware moment."""
        self._library = folder / "moved_clock.so"
        self._file = folder / "moved_by"
        command = [program("cc"), "-shared", "-fPIC", "-O2", "-o", str(self._library), str(_SOURCE)]
        subprocess.run(command, check=True, capture_output=True)
        self._moved_by = _moved_to(moment)
        self._file.write_bytes(struct.pack(_FORMAT, self._moved_by))
        give_away(self._file, 0o644)

    @property
    def environment(self) -> Mapping[str, str]:
        """What a process needs to live in this time."""
        return {"LD_PRELOAD": str(self._library), "BANDICOOT_MOVED_CLOCK": str(self._file)}

    def now(self) -> datetime:
        """The moment in the processes' time, in UTC."""
        return datetime.fromtimestamp((time.time_ns() + self._moved_by) / 1e9, UTC)

    def set(self, moment: datetime) -> None:
        """Move on to an aware moment; nothing happens when it has passed."""
        self._move(max(_moved_to(moment), self._moved_by))

    def advance(self, by: timedelta) -> None:
        """Move on."""
        self._move(self._moved_by + int(by.total_seconds() * 1e9))

    def _move(self, moved_by: int) -> None:
        self._moved_by = moved_by
        # Written in place: the processes have mapped this very file.
        with self._file.open("r+b") as file:
            file.write(struct.pack(_FORMAT, moved_by))


def _moved_to(moment: datetime) -> int:
    return int(moment.timestamp() * 1e9) - time.time_ns()
