"""What is on the call sheet: a page of a list in words, with links to its other parts.

From PostgreSQL it shows what is marked; from Redis only the list. How it is laid out belongs to the templates.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Final
from urllib.parse import urlencode

from bandicoot_api.sheet import texts
from bandicoot_core.stores.cache.list_snapshot import ListSnapshot
from bandicoot_core.stores.published.call_sheet import NO_DISTRICT, Chosen, DistrictCount, Sheet, SheetRow, page_of

PAGE_SIZE: Final = 25


@dataclass(frozen=True)
class Part:
    """Which part of the list is asked for."""

    district: str | None = None
    chosen: Chosen = "all"
    page: int = 1

    def link(self, *, fragment: str = "", **more: str) -> str:
        """The address of the part; what is as usual is left out."""
        query: dict[str, str] = {}
        if self.district is not None:
            query["district"] = self.district
        if self.chosen != "all":
            query["show"] = self.chosen
        if self.page != 1:
            query["page"] = str(self.page)
        query |= more
        return "/" + (f"?{urlencode(query)}" if query else "") + (f"#{fragment}" if fragment else "")


@dataclass(frozen=True)
class Link:
    """A link to a part of the list."""

    words: str
    href: str
    n: int
    is_here: bool = False


@dataclass(frozen=True)
class ShownRow:
    """One caregiver in words."""

    rank: int
    caregiver_id: str
    district: str
    state: str
    contact: str
    reason: str
    attempt: int
    """Which call to her the next mark would be."""
    is_next: bool
    """Whether she is the first on the page who is not called."""
    outcome: str | None
    """The last one."""
    marked: str | None
    """What was marked, when and by whom."""


@dataclass(frozen=True)
class Shown:
    """A page of the list in words."""

    call_date: date
    day: str
    banners: Sequence[str]
    part: Part
    here: str
    """Name of the district."""
    n_called: int
    n_listed: int
    districts: Sequence[Link]
    views: Sequence[Link]
    rows: Sequence[ShownRow]
    n_pages: int
    previous: str | None
    next: str | None
    can_mark: bool


def shown(sheet: Sheet, part: Part, today: date) -> Shown:
    """A page with its marks."""
    old = sheet.call_date < today
    banners = [texts.not_of_today(sheet.call_date, today)] if old else []
    return _shown(sheet, part, today, banners, can_mark=True)


def shown_from_cache(snapshot: ListSnapshot, part: Part, today: date) -> Shown:
    """A page of a list without marks, which nobody can make now either."""
    counts: dict[str, int] = {}
    for row in snapshot.rows:
        counts[row.district or NO_DISTRICT] = counts.get(row.district or NO_DISTRICT, 0) + 1
    rows = [row for row in snapshot.rows if part.district is None or (row.district or NO_DISTRICT) == part.district]
    page, n_pages, offset = page_of(len(rows), part.page, PAGE_SIZE)
    banners = [texts.LOST]
    if snapshot.call_date < today:
        banners.insert(0, texts.not_of_today(snapshot.call_date, today))
    sheet = Sheet(
        snapshot.call_date,
        snapshot.run_id,
        [DistrictCount(district, n, n, 0) for district, n in sorted(counts.items())],
        page,
        n_pages,
        [
            SheetRow(row.rank, row.caregiver_id, row.district, row.state, row.reason, row.last_call_date)
            for row in rows[offset : offset + PAGE_SIZE]
        ],
    )
    return _shown(sheet, Part(part.district, "all", page), today, banners, can_mark=False)


def _shown(sheet: Sheet, part: Part, today: date, banners: Sequence[str], *, can_mark: bool) -> Shown:
    counted = [each for each in sheet.districts if part.district in (None, each.district)]
    here = replace(part, page=sheet.page)
    next_rank = next((row.rank for row in sheet.rows if row.outcome is None), None)
    return Shown(
        call_date=sheet.call_date,
        day=texts.day(sheet.call_date),
        banners=banners,
        part=here,
        here=texts.ALL_DISTRICTS if part.district is None else _name(part.district),
        n_called=sum(each.n_called for each in counted),
        n_listed=sum(each.n_listed for each in counted),
        districts=_districts(sheet.districts, part),
        views=[
            Link(
                words,
                Part(part.district, chosen).link(),
                sum(each.n_of(chosen) for each in counted),
                is_here=chosen == part.chosen,
            )
            for chosen, words in texts.VIEW.items()
        ]
        if can_mark
        else [],
        rows=[_row(row, today, is_next=row.rank == next_rank and can_mark) for row in sheet.rows],
        n_pages=sheet.n_pages,
        previous=replace(here, page=here.page - 1).link() if here.page > 1 else None,
        next=replace(here, page=here.page + 1).link() if here.page < sheet.n_pages else None,
        can_mark=can_mark,
    )


def _districts(counts: Sequence[DistrictCount], part: Part) -> list[Link]:
    everybody = Link(
        texts.ALL_DISTRICTS,
        Part(None, part.chosen).link(),
        sum(each.n_of(part.chosen) for each in counts),
        is_here=part.district is None,
    )
    return [
        everybody,
        *(
            Link(
                _name(each.district),
                Part(each.district, part.chosen).link(),
                each.n_of(part.chosen),
                is_here=each.district == part.district,
            )
            for each in counts
        ),
    ]


def _row(row: SheetRow, today: date, *, is_next: bool) -> ShownRow:
    return ShownRow(
        rank=row.rank,
        caregiver_id=row.caregiver_id,
        district=_name(row.district or NO_DISTRICT),
        state=texts.STATE[row.state],
        contact=texts.last_called(row.last_call_date, today),
        reason=row.reason,
        attempt=row.n_attempts + 1,
        is_next=is_next,
        outcome=row.outcome,
        marked=_marked(row, today),
    )


def _marked(row: SheetRow, today: date) -> str | None:
    if row.outcome is None or row.attempted_at is None:
        return None
    told = (texts.moment(row.attempted_at, today), row.recorded_by, texts.attempt(row.n_attempts))
    return " · ".join(filter(None, (texts.OUTCOME[row.outcome], *told)))


def _name(district: str) -> str:
    return texts.NO_DISTRICT if district == NO_DISTRICT else district
