"""docs/reliability.md holds the table of a long pass in which nothing was lost."""

from pathlib import Path

from tests.faults.record import BEGIN, END, EVENTS_BEGIN, EVENTS_END

DOCUMENT = Path(__file__).parents[2] / "docs" / "reliability.md"


def test_the_document_tells_of_many_tries_and_no_list_lost_or_half_published() -> None:
    written = DOCUMENT.read_text().partition(BEGIN)[2].partition(END)[0]
    rows = [line.strip("| ").split(" | ") for line in written.splitlines() if line.startswith("| ")]
    header, faults = rows[0], [dict(zip(rows[0], row, strict=True)) for row in rows[2:]]
    assert header[:4] == ["fault", "times tried", "lists lost", "lists half-published"]
    assert len(faults) >= 26
    assert sum(int(fault["times tried"]) for fault in faults) >= 150
    for fault in faults:
        for answer in ("lists lost", "lists half-published", "errors without a remedy", "other changes"):
            assert fault[answer] == "0", fault
        assert fault["repeated to the same bytes"] == fault["times tried"]
        assert fault["recovered"]


def test_the_document_tells_of_events_through_crashes_none_lost_and_none_doubled() -> None:
    written = DOCUMENT.read_text().partition(EVENTS_BEGIN)[2].partition(EVENTS_END)[0]
    rows = [line.strip("| ").split(" | ") for line in written.splitlines() if line.startswith("| ")]
    tries = [dict(zip(rows[0], row, strict=True)) for row in rows[2:]]
    assert len(tries) >= 5
    for each in tries:
        assert (each["events expected"], each["lost"], each["doubled"]) == ("100,000", "0", "0")
        assert each["events in the lake"] == each["events expected"]
        assert each["dead letters"] == each["dead letters expected"]
        assert "database killed" in each["struck"]
