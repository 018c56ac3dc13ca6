"""What is written of a run: the figures against their goals, each load, and each fault, as Markdown.

Only arithmetic and words; measuring belongs to `scenario`.
"""

import statistics
from collections.abc import Mapping, Sequence

from benchmarks.load.faults import Suffered
from benchmarks.load.judging import LATE_SECONDS
from benchmarks.load.scenario import Measured, Ratio

RATIO_GOAL, START_GOAL = 2.0, 3.0


def report(
    loads: Mapping[str, Measured],
    suffered: Sequence[Suffered],
    *,
    ratio: Ratio,
    starts: Sequence[float],
    n_caregivers: int,
    pause_seconds: tuple[float, float],
    machine: str,
) -> str:
    """The whole document."""
    n_users = max(measured.n_users for measured in loads.values())
    n_answers = sum(measured.verdict.n_answers for measured in loads.values())
    n_wrong = sum(measured.verdict.n_wrong for measured in loads.values())
    n_wrong += sum(fault.n_unmarked for fault in suffered)
    n_texts = sum(measured.verdict.n_texts for measured in loads.values())
    parts = [
        "# The service under load",
        f"Written by `make load`. {machine}",
        f"{n_users:,} clients of Locust's, each with a connection of its own, ask one process of `bandicoot api` for "
        f"recommendations out of {n_caregivers:,} caregivers; a real PostgreSQL and a real Redis stand behind it, and "
        "all of them, clients included, share the machine. A client pauses "
        f"{pause_seconds[0]:g} to {pause_seconds[1]:g} s between an answer and its next question. A person at a call "
        "sheet asks every few minutes, a program that keeps a copy about once a second: this is everybody being such a "
        "program. Two of three ask as tier `standard`, one as `fast`; most want the first 100 of all or of a district, "
        "some 25 or 50, few 1,000. The clients share twenty keys, so that `BANDICOOT_API_READS_PER_MINUTE` is "
        "1,000,000 here; nothing else differs from the defaults.",
        "## Against the numbers to reach",
        _goals(loads, ratio, starts, n_answers, n_wrong),
        "## Each load",
        _loads_table(loads),
        "*Per second* counts answers. *By load* is the share of answers that a key of tier `standard` got from the "
        "published list, because as many rankings were under way as may be; every such answer says so. *Processor* is "
        "what one answer took of the service's own processor time, which a busy machine does not change; PostgreSQL's, "
        "Redis's and the clients' are not in it.",
        "## What the service adds",
        f"One client asks the service (warm) and a FastAPI route without parameters, key or guard, which returns the "
        f"same {ratio.n_bytes:,} bytes, in turn, with uvicorn's settings alike: median "
        f"{ratio.service_p50_ms:.2f} ms and {ratio.bare_p50_ms:.2f} ms, 95th percentile "
        f"{ratio.service_p95_ms:.2f} ms and {ratio.bare_p95_ms:.2f} ms. For the difference there are a key checked, a "
        "request counted, its parameters checked, a line in the audit log, metrics, headers, a limit of time and of "
        "memory, and the certainty that the answer is still right.",
        "## Faults under load",
        _faults_table(suffered),
        "*Errors* are 503 in the documented shape; *broken* would be anything else. *Stale* answers are the last list, "
        "from Redis, and say that PostgreSQL is away; *unmarked* would be those that do not say it, a second after it "
        "went. *Recovery* is from the fault's end to the last error or stale "
        "answer; what follows is the usual tier. A new list takes as long as its publication.",
        f"Every text of an answer was read, {n_texts:,} different ones in {n_answers:,} answers: its list must be one "
        "that was published, its rows exactly that list's, or those that a ranking as of then gives, in order and "
        "without gaps; stale must be marked and nothing else; nobody may be named who was called before; and the list "
        f"before may not be given out {LATE_SECONDS:g} s after a new one. The last question that was still answered "
        f"with it began {max(m.verdict.late_seconds for m in loads.values()):.2f} s after the new one's commit "
        "(`BANDICOOT_API_CHECK_SECONDS` is 0.2). "
        f"**Wrong answers: {n_wrong}.**",
    ]
    return "\n\n".join(parts) + "\n"


def _goals(loads: Mapping[str, Measured], ratio: Ratio, starts: Sequence[float], n_answers: int, n_wrong: int) -> str:
    of_median = ratio.service_p50_ms / ratio.bare_p50_ms
    of_p95 = ratio.service_p95_ms / ratio.bare_p95_ms
    n_errors = sum(
        measured.shares["refused"] + measured.shares["broken"] for name, measured in loads.items() if name != "faults"
    )
    lines = [
        ("errors without a fault", "none", "none" if n_errors == 0 else f"{n_errors:.2%}", n_errors == 0),
        ("wrong answers, faults included", "0", f"{n_wrong} of {n_answers:,}", n_wrong == 0),
        (
            "warm answer against a bare route with the same bytes, median",
            f"at most {RATIO_GOAL:g} x",
            f"{of_median:.2f} x",
            of_median <= RATIO_GOAL,
        ),
        ("the same, 95th percentile", f"at most {RATIO_GOAL:g} x", f"{of_p95:.2f} x", of_p95 <= RATIO_GOAL),
        (
            f"start of the process to its first answer, the longest of {len(starts)}",
            f"under {START_GOAL:g} s",
            f"{max(starts):.1f} s (median {statistics.median(starts):.1f})",
            max(starts) < START_GOAL,
        ),
    ]
    rows = [f"| {a} | {b} | {c} | {'reached' if d else '**missed**'} |" for a, b, c, d in lines]
    return "\n".join(["| what | asked | measured | |", "| --- | ---: | ---: | --- |", *rows])


def _loads_table(loads: Mapping[str, Measured]) -> str:
    lines = [
        "| load | clients | per second | median | 95th percentile | 99th | by load | errors | processor |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, measured in loads.items():
        if name == "faults":
            continue
        lines.append(
            f"| {name} | {measured.n_users:,} | {measured.per_second:,.0f} | {_ms(measured.p50_ms)} "
            f"| {_ms(measured.p95_ms)} | {_ms(measured.p99_ms)} | {measured.shares['by load']:.0%} "
            f"| {measured.shares['refused'] + measured.shares['broken']:.2%} | {measured.service_ms:.2f} ms |"
        )
    return "\n".join(lines)


def _faults_table(suffered: Sequence[Suffered]) -> str:
    lines = [
        "| fault | lasted | answers until recovery | errors | broken | stale | unmarked | error rate | recovery |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {fault.name} | {fault.lasted_seconds:.1f} s | {fault.n_answers:,} | {fault.n_refused:,} "
        f"| {fault.n_broken:,} | {fault.n_stale:,} | {fault.n_unmarked} | {fault.error_rate:.1%} "
        f"| {fault.recovery_seconds:.1f} s |"
        for fault in suffered
    ]
    return "\n".join(lines)


def _ms(value: float) -> str:
    return f"{value:.0f} ms" if value >= 10 else f"{value:.1f} ms"
