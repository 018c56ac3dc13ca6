"""Measuring a piece of work in a process of its own: seconds, peak memory, and what came of it.

The parent starts `python -m <module> <stage> <case>` and reads one line of JSON; the child times its work. What the
work is belongs to the modules of the stages. This module imports nothing heavy: a parent with a large memory of its
own would show in the peak of the processes it starts.
"""

import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

Fact = int | float | str


@dataclass(frozen=True)
class Case:
    """What a stage works on: a size, and the folder with the data of that size."""

    folder: str
    n_caregivers: int
    repeats: int = 5

    @property
    def lake_root(self) -> str:
        """Root of the lake of this case."""
        return str(Path(self.folder) / "lake")

    @property
    def home(self) -> Path:
        """Home folder of the embedded server of this case."""
        return Path(self.folder) / "home"


@dataclass(frozen=True)
class Measured:
    """One stage of one case."""

    seconds: Sequence[float]
    """Wall-clock seconds of each repetition."""
    cpu_seconds: Sequence[float]
    """Seconds of processor time of this process in each repetition, over all its threads; empty when not known."""
    peak_mb: float
    """Peak memory of the process up to the end of the first repetition, what it imported included."""
    base_mb: float
    """Memory of the process just before the first repetition: Python and the libraries."""
    n_rows: int
    facts: Mapping[str, Fact] = field(default_factory=dict)

    @property
    def median(self) -> float:
        """Median of the seconds."""
        return statistics.median(self.seconds)

    @property
    def median_cpu(self) -> float:
        """Median of the processor time; nan when not known."""
        return statistics.median(self.cpu_seconds or [math.nan])


@dataclass(frozen=True)
class Outcome:
    """What one repetition gives back: rows it made, and facts about them."""

    n_rows: int
    facts: Mapping[str, Fact] = field(default_factory=dict)


def repeat(work: Callable[[], Outcome], *, repeats: int) -> Measured:
    """Do the work some times in this process, with warm files from the second time on; the last outcome is kept.

    Memory is read after the first time: a second one would find what the allocator kept of the first.
    """
    base_mb = memory_mb("VmRSS")
    seconds: list[float] = []
    cpu_seconds: list[float] = []
    peak_mb = 0.0
    for _ in range(repeats):
        start, cpu_start = time.perf_counter(), time.process_time()
        outcome = work()
        seconds.append(time.perf_counter() - start)
        cpu_seconds.append(time.process_time() - cpu_start)
        peak_mb = peak_mb or memory_mb("VmHWM")
    return Measured(seconds, cpu_seconds, peak_mb, base_mb, outcome.n_rows, outcome.facts)


def serve(stages: Sequence[Callable[[Case], Measured]], arguments: Sequence[str]) -> None:
    """The child's side: run the stage that the arguments name and print what was measured as JSON."""
    name, case = arguments
    stage = {stage.__name__: stage for stage in stages}[name]
    print(json.dumps(asdict(stage(Case(**json.loads(case))))))


def run_stage(module: str, stage: str, case: Case) -> Measured:
    """The parent's side: the stage in a process of its own, with default settings; its errors go to standard error.

    RuntimeError when it fails.
    """
    command = [sys.executable, "-m", module, stage, json.dumps(asdict(case))]
    done = subprocess.run(command, env=default_settings(), stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{module} {stage} for {case.n_caregivers:,} failed with {done.returncode}; see above why")
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


@dataclass(frozen=True)
class Ended:
    """A command that has ended well: its own time and memory, with those of the processes it waited for."""

    seconds: float
    cpu_seconds: float
    peak_mb: float


def run_command(command: Sequence[str], environment: Mapping[str, str]) -> Ended:
    """A command from start to exit; RuntimeError with its last words when it fails."""
    start = time.perf_counter()
    with subprocess.Popen(command, env=dict(environment), stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        words = process.stdout.read().decode(errors="replace")
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}:\n{words[-4000:]}")
    return Ended(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def say(line: str) -> None:
    """Progress, on standard error: standard output is for results."""
    print(line, file=sys.stderr, flush=True)


def default_settings(**settings: str) -> dict[str, str]:
    """This process's environment with no setting of Bandicoot's but those given, by their names in lower case."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BANDICOOT_")}
    return kept | {f"BANDICOOT_{name.upper()}": value for name, value in settings.items()}


def memory_mb(name: str) -> float:
    """A size from this process's own record. Linux only; getrusage would count the image before exec as well."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"/proc/self/status has no {name}; memory is measured on Linux only")
