"""Whether clients were told the truth: each text they got, held against what PostgreSQL had published.

An answer is right when it is of a list that existed, has that list's rows in their order, or the ranking's, is marked
stale exactly when it should be, and names nobody who was called before it was asked for.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.load.installation import Publication
from benchmarks.load.traffic import COLUMNS, FAST, STANDARD, Body, Question

LATE_SECONDS = 1.0
"""How long after a change an answer may still be of before it: the service asks PostgreSQL every 0.2 s, and what it
was told then may wait on a busy machine. What was measured is reported."""

_RANK, _ID, _DISTRICT, _SCORE, _ARM = (
    COLUMNS.index(name) for name in ("rank", "caregiver_id", "district", "priority_score", "ab_arm")
)


@dataclass
class Verdict:
    """What was found in all answers of a load."""

    n_answers: int = 0
    n_texts: int = 0
    n_wrong: int = 0
    wrong: list[str] = field(default_factory=list)
    """The first of what is wrong, in words."""
    lists_seen: set[str] = field(default_factory=set)
    """Publications that answers were of."""
    late_seconds: float = 0.0
    """The longest time after a new list at which a request began that was answered with the old one, unmarked."""


def judge(
    bodies: Iterable[Body],
    questions: Sequence[Question],
    publications: Sequence[Publication],
    *,
    called_at: Mapping[str, float] | None = None,
) -> Verdict:
    """Look at every text. `publications` in the order of their commits; `called_at`: when a call was recorded."""
    verdict = Verdict()
    places = {publication.name: place for place, publication in enumerate(publications)}
    for body in bodies:
        question = questions[body.question]
        verdict.n_answers += body.n_seen
        verdict.n_texts += 1
        name = str(body.metadata["list_version"]).partition("-")[0]
        if name not in places:
            found = [f"of the list {name}, which there never was"]
        else:
            publication = publications[places[name]]
            verdict.lists_seen.add(name)
            found = _faults(body, question, publication, has_calls=called_at is not None)
            if not _is_marked(body) and places[name] + 1 < len(publications):
                late = body.last_asked_at - publications[places[name] + 1].committed_at
                verdict.late_seconds = max(verdict.late_seconds, late)
                if late > LATE_SECONDS:
                    found.append(f"of the list before, {late:.1f} s after the new one, and not marked")
        if called_at and body.metadata["tier"] == STANDARD:
            found += [
                f"names somebody who was called {body.last_asked_at - called_at[row[_ID]]:.1f} s before"
                for row in body.rows
                if body.last_asked_at - called_at.get(row[_ID], float("inf")) > LATE_SECONDS
            ]
        if found:
            verdict.n_wrong += body.n_seen
            verdict.wrong += [f"{question}: {words}" for words in found][: max(0, 20 - len(verdict.wrong))]
    return verdict


def _is_marked(body: Body) -> bool:
    return bool(body.metadata["tier_reason"] == "database_away")


def _faults(body: Body, question: Question, publication: Publication, *, has_calls: bool) -> list[str]:
    told, rows = body.metadata, body.rows
    found = []
    asked = (question.budget, question.district, question.exclude_control)
    if tuple(told["filters"][name] for name in ("budget", "district", "exclude_control")) != asked:
        found.append(f"answers another question: {told['filters']}")
    if told["returned"] != len(rows) or len(rows) > question.budget or len({row[_ID] for row in rows}) != len(rows):
        found.append(f"{len(rows)} rows, {told['returned']} said")
    if told["is_stale"] != (_is_marked(body) or told["list_date"] < told["call_date"]):
        found.append(f"is_stale is {told['is_stale']}, {told['tier_reason']}")
    if told["tier"] == STANDARD:
        if question.tier == FAST:
            found.append("a ranking for a key of tier fast")
        found += _faults_of_ranking(rows, question)
        if not has_calls and question in publication.rankings and rows != publication.rankings[question]:
            found.append("is not the ranking as of then")
    elif rows != _listed(publication, question):
        found.append(f"is not the list: {len(rows)} rows, {len(_listed(publication, question))} expected")
    return found


def _listed(publication: Publication, question: Question) -> list[tuple[object, ...]]:
    rows = [row for row in publication.rows if question.district is None or row[_DISTRICT] == question.district]
    return rows[: question.budget]


def _faults_of_ranking(rows: Sequence[tuple[object, ...]], question: Question) -> list[str]:
    found = []
    if [row[_RANK] for row in rows] != list(range(1, len(rows) + 1)):
        found.append("ranks have gaps")
    scores = [float(str(row[_SCORE])) for row in rows]
    if scores != sorted(scores, reverse=True):
        found.append("not in the order of the index")
    if question.district is not None and {row[_DISTRICT] for row in rows} - {question.district}:
        found.append("of another district")
    if question.exclude_control and "control" in {row[_ARM] for row in rows}:
        found.append("names the control arm")
    return found
