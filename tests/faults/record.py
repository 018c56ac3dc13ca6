"""What the faults did: one line for each, printed at the end and written to docs/reliability.md on demand."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

BEGIN, END = "<!-- faults: written by the suite -->", "<!-- end of faults -->"
EVENTS_BEGIN, EVENTS_END = "<!-- events: written by the suite -->", "<!-- end of events -->"

BY_ITSELF = "by itself"
RUN_AGAIN = "`bandicoot run`"

_COLUMNS = (
    "fault",
    "times tried",
    "lists lost",
    "lists half-published",
    "old / new list seen after it",
    "repeated to the same bytes",
    "errors without a remedy",
    "other changes",
    "recovered",
)


_EVENT_COLUMNS = (
    "seed",
    "messages told",
    "deliveries",
    "seconds",
    "struck",
    "events expected",
    "events in the lake",
    "lost",
    "doubled",
    "dead letters expected",
    "dead letters",
)


@dataclass(frozen=True)
class EventsRecord:
    """What became of events that were told while things broke."""

    seed: int
    n_messages: int
    n_deliveries: int
    seconds: float
    strikes: Counter[str]
    n_expected: int
    n_in_lake: int
    n_lost: int
    n_doubled: int
    n_letters_expected: int
    n_letters: int

    def row(self) -> str:
        """The line of the table."""
        cells = (
            self.seed,
            f"{self.n_messages:,}",
            f"{self.n_deliveries:,}",
            f"{self.seconds:.0f}",
            ", ".join(f"{what} {count}" for what, count in sorted(self.strikes.items())),
            f"{self.n_expected:,}",
            f"{self.n_in_lake:,}",
            self.n_lost,
            self.n_doubled,
            self.n_letters_expected,
            self.n_letters,
        )
        return "| " + " | ".join(str(cell) for cell in cells) + " |"


def events_table(records: Iterable[EventsRecord]) -> str:
    """All tries as a Markdown table."""
    marks = ["---" if name == "struck" else "---:" for name in _EVENT_COLUMNS]
    lines = [f"| {' | '.join(_EVENT_COLUMNS)} |", f"| {' | '.join(marks)} |", *(record.row() for record in records)]
    return "\n".join(lines)


@dataclass
class FaultRecord:
    """The answers after each try of one fault."""

    fault: str
    n_tried: int = 0
    n_lost: int = 0
    n_half: int = 0
    n_old: int = 0
    n_new: int = 0
    n_repeated: int = 0
    n_unclear: int = 0
    n_other_changes: int = 0
    recovered: Counter[str] = field(default_factory=Counter)

    def row(self) -> str:
        """The fault's line of the table."""
        ways = ", ".join(f"{way} {n}" for way, n in sorted(self.recovered.items()))
        cells = (
            self.fault,
            self.n_tried,
            self.n_lost,
            self.n_half,
            f"{self.n_old} / {self.n_new}",
            self.n_repeated,
            self.n_unclear,
            self.n_other_changes,
            ways,
        )
        return "| " + " | ".join(str(cell) for cell in cells) + " |"


def note(
    records: dict[str, FaultRecord],
    fault: str,
    *,
    is_repeated: bool,
    way: str,
    is_whole: bool = True,
    is_new: bool = True,
) -> None:
    """Record a try whose answers were found out elsewhere."""
    record = records.setdefault(fault, FaultRecord(fault))
    record.n_tried += 1
    record.n_half += not is_whole
    record.n_old += not is_new
    record.n_new += is_new
    record.n_repeated += is_repeated
    record.recovered[way] += 1


def table(records: Iterable[FaultRecord]) -> str:
    """All lines as a Markdown table, in the order in which the faults were first tried."""
    return "\n".join(
        [
            "| " + " | ".join(_COLUMNS) + " |",
            "| --- |" + " ---: |" * (len(_COLUMNS) - 2) + " --- |",
            *(record.row() for record in records),
        ]
    )


def write_document(path: Path, text: str, *, begin: str = BEGIN, end: str = END) -> None:
    """Put the text between two markers of the document; what stands around them stays."""
    before, _, rest = path.read_text().partition(begin)
    _, _, after = rest.partition(end)
    path.write_text(f"{before}{begin}\n{text}\n{end}{after}")
