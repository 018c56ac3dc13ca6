"""Which failed runs still stand: those after which no run has done the same work.

How runs are found belongs to the side that runs them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bandicoot_core.alarms.problems import Problem

_SUPERSEDED = frozenset({"daily_list"})
"""Jobs whose later partition makes an earlier failure moot: the list of a day gone by is not made late."""

REFUSED_BY_CHECK = "DagsterAssetCheckFailedError"
"""Class of the error of a run whose blocking check refused what was made."""

_MOST_CHARACTERS = 2000
"""A longer cause is cut: the whole of it stands in the run."""

_NEXT_STEPS = {
    "TooManyInvalidRowsError": "mend the rows in the source, or raise BANDICOOT_MAX_INVALID_SHARE",
    "UnreachableError": "see that the server named answers",
    "StorageFullError": "make room on the disk",
    REFUSED_BY_CHECK: "look at the checks of the assets in the run",
}


@dataclass(frozen=True)
class RunEnd:
    """A run that has ended: what it was to do, and why it failed (empty when it succeeded).

    `first_partition` and `last_partition` are YYYY-MM-DD, equal for one partition, empty for a job without any.
    `error_class` names the exception, `cause` is its message, and `step` the asset, or op, that failed.
    """

    job: str
    first_partition: str
    last_partition: str
    run_id: str
    is_success: bool
    error_class: str = ""
    cause: str = ""
    step: str = ""


def standing_failures(standing: Sequence[Problem], ends: Iterable[RunEnd]) -> list[Problem]:
    """The failures that stand after some more runs have ended, given in the order of their ends.

    A failure stands until a run of the same job covers its partition and succeeds; a second failure of the same work
    is the same problem. Telling of an end twice changes nothing, if what ended after it is told of again as well. A
    model that was refused by its checks is no failure here: conditions says so.
    """
    found = {(problem.asset, problem.partition): problem for problem in standing}
    for end in ends:
        if end.is_success:
            found = {key: problem for key, problem in found.items() if not _covers(end, *key)}
        elif not (end.step == "model_version" and end.error_class == REFUSED_BY_CHECK):
            problem = _problem(end)
            found.setdefault((problem.asset, problem.partition), problem)
    return list(found.values())


def _covers(end: RunEnd, job: str, partition: str) -> bool:
    if end.job != job:
        return False
    if job in _SUPERSEDED:
        return partition <= end.last_partition
    return end.first_partition <= partition <= end.last_partition


def _problem(end: RunEnd) -> Problem:
    again = f"run `{end.job}`{f' for {end.last_partition}' if end.last_partition else ''} again"
    first = _NEXT_STEPS.get(end.error_class, "see the run in the UI, mend what it names")
    return Problem(
        "too_many_set_aside" if end.error_class == "TooManyInvalidRowsError" else "run_failed",
        end.job,
        end.last_partition,
        f"{f'{end.step}: ' if end.step else ''}{end.cause[:_MOST_CHARACTERS] or 'no reason was recorded'} "
        f"(run {end.run_id})",
        f"{first}, then {again}",
        "error",
    )
