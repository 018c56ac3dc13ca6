"""A ranking as of now is what the rules say: the eligible, ordered by index, longest uncalled first, then by hash."""

import hashlib
from datetime import UTC, date, datetime, timedelta
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from published_rows import DAY, NIGHT

from bandicoot_core.calendar import start_of_day
from bandicoot_core.stores.published.live_ranking import IndexLevel, LiveRules, live_version, rank_now, standing_of

MODEL = "m-1"
N_CLUSTERS = 2
CRITERIA = ("not active", "warm-up", "no cluster", "control arm", "cool-down", "waiting for outcome")

INDICES = {(cluster, state): 0.1 * cluster + (0.25 if state == "U" else 0.0) for cluster in (0, 1) for state in "UR"}


def days(first: int, last: int) -> st.SearchStrategy[date]:
    return st.integers(first, last).map(lambda n: DAY + timedelta(days=n))


CAREGIVER = st.fixed_dictionaries(
    {
        "district": st.sampled_from(["Gaya", "Gaya", "Pune", None]),
        "state": st.sampled_from("UR"),
        "last_call_date": st.none() | days(-4, -1),
        "warm_up_end_date": days(-1, 1),
        "status": st.sampled_from(["active", "active", "active", "left"]),
        "ab_arm": st.sampled_from(["treatment", "treatment", "control"]),
        "cluster_id": st.sampled_from([0, 1, 1, None]),
        "own_index_u": st.sampled_from([0.5, 0.5, 0.5, 0.75]),
        "own_index_r": st.sampled_from([0.5, None]),
    }
)
CALL = st.tuples(st.integers(0, 7), days(-5, 0), st.integers(0, 23))
LISTING = st.tuples(st.integers(0, 7), days(-5, 0))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    caregivers=st.lists(CAREGIVER, min_size=4, max_size=8),
    calls=st.lists(CALL, max_size=6),
    listings=st.lists(LISTING, max_size=6, unique=True),
    rules=st.builds(
        LiveRules,
        call_date=st.just(DAY),
        cool_down_days=st.integers(0, 3),
        pending_days=st.integers(0, 4),
        index_level=st.sampled_from(["caregiver", "cluster"]),
    ),
    budget=st.integers(1, 4),
    district=st.sampled_from([None, "Gaya"]),
    is_control_excluded=st.booleans(),
)
def test_a_ranking_is_what_the_rules_say_of_any_facts(
    published: psycopg.Connection,
    caregivers: list[dict[str, Any]],
    calls: list[tuple[int, date, int]],
    listings: list[tuple[int, date]],
    rules: LiveRules,
    budget: int,
    district: str | None,
    is_control_excluded: bool,
) -> None:
    people = [{"caregiver_id": f"C{number}", **caregiver} for number, caregiver in enumerate(caregivers)]
    store(published, people, calls, listings)
    found = rank_now(
        published,
        rules,
        model_version=MODEL,
        budget=budget,
        district=district,
        is_control_excluded=is_control_excluded,
    )
    failed = {person["caregiver_id"]: failures(person, calls, listings, rules) for person in people}
    here = [person for person in people if district is None or person["district"] == district]
    eligible = [
        person
        for person in here
        if not set(failed[person["caregiver_id"]]) - (set() if is_control_excluded else {"control arm"})
    ]
    assert found.n_evaluated == len(here)
    assert found.n_eligible == len(eligible)
    unranked = [person for person in eligible if own_index(person) is None]
    assert found.n_unranked == len(unranked)
    if not unranked:
        expected = sorted(eligible, key=lambda person: place(person, calls, rules))
        assert [row["caregiver_id"] for row in found.rows] == [person["caregiver_id"] for person in expected[:budget]]
        for row, person in zip(found.rows, expected, strict=False):
            assert row["whittle_index"] == INDICES[person["cluster_id"], person["state"]]
            assert row["own_index"] == own_index(person)
    for person in people:
        row = standing_of(published, rules, person["caregiver_id"], model_version=MODEL)
        assert row is not None
        assert row["failed"] == failed[person["caregiver_id"]]


def failures(
    person: dict[str, Any], calls: list[tuple[int, date, int]], listings: list[tuple[int, date]], rules: LiveRules
) -> list[str]:
    """The criteria that she fails, by the rules of the design read literally."""
    contact = last_contact(person, calls, rules)
    number = int(person["caregiver_id"][1:])
    waits = any(
        listed == number
        and rules.call_date - timedelta(days=rules.pending_days) <= day < rules.call_date
        and not any(called == number and of_day == day for called, of_day, _ in calls)
        for listed, day in listings
    )
    holds = (
        person["status"] != "active",
        person["warm_up_end_date"] > rules.call_date,
        person["cluster_id"] is None,
        person["ab_arm"] == "control",
        contact is not None and (rules.call_date - contact).days <= rules.cool_down_days,
        waits,
    )
    return [name for name, fails in zip(CRITERIA, holds, strict=True) if fails]


def last_contact(person: dict[str, Any], calls: list[tuple[int, date, int]], rules: LiveRules) -> date | None:
    """The day of her last call, of her state or reported since."""
    seen = max(rules.cool_down_days, rules.pending_days)
    reported = [
        day
        for number, day, _ in calls
        if f"C{number}" == person["caregiver_id"] and (rules.call_date - day).days <= seen
    ]
    return max([day for day in [person["last_call_date"], *reported] if day is not None], default=None)


def own_index(person: dict[str, Any]) -> float | None:
    found: float | None = person["own_index_u" if person["state"] == "U" else "own_index_r"]
    return found


def place(person: dict[str, Any], calls: list[tuple[int, date, int]], rules: LiveRules) -> tuple[Any, ...]:
    """Where she stands among others; the least comes first."""
    contact = last_contact(person, calls, rules)
    tie = hashlib.md5(f"{person['caregiver_id']}|{rules.call_date}".encode(), usedforsecurity=False).hexdigest()
    own, cluster = own_index(person) or 0.0, INDICES[person["cluster_id"], person["state"]]
    indices = (-own,) if rules.index_level == "caregiver" else (-cluster, -own)
    return (*indices, date.min if contact is None else contact, tie)


def store(
    connection: psycopg.Connection,
    people: list[dict[str, Any]],
    calls: list[tuple[int, date, int]],
    listings: list[tuple[int, date]],
) -> None:
    """Replace what is stored by these facts."""
    for table in ("call_outcomes", "call_list", "list_publications", "caregiver_states", "whittle_indices"):
        connection.execute(f"DELETE FROM bandicoot.{table}")
    connection.execute(
        "INSERT INTO bandicoot.model_versions (model_version, training_week, status, checks, recipe, created_at, "
        "run_id) VALUES (%s, DATE '2026-11-15', 'candidate', '{}', '{}', %s, 'run-0') ON CONFLICT DO NOTHING",
        (MODEL, NIGHT),
    )
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO bandicoot.whittle_indices VALUES (%s, %s, %s, %s, 0, 1, true, 0.1, 0.2)",
            [(MODEL, cluster, state, index) for (cluster, state), index in INDICES.items()],
        )
        cursor.executemany(
            "INSERT INTO bandicoot.caregiver_states (caregiver_id, district, state, last_call_date, warm_up_end_date, "
            "status, ab_arm, cluster_id, as_of_date, own_index_u, own_index_r) VALUES (%(caregiver_id)s, %(district)s, "
            "%(state)s, %(last_call_date)s, %(warm_up_end_date)s, %(status)s, %(ab_arm)s, %(cluster_id)s, "
            "DATE '2026-11-19', %(own_index_u)s, %(own_index_r)s)",
            people,
        )
        cursor.executemany(
            "INSERT INTO bandicoot.call_outcomes (call_id, caregiver_id, call_date, attempted_at, outcome, recorded_by)"
            " VALUES (%s, %s, %s, %s, 'no_answer', 'desk 4')",
            [
                (f"call-{n}", f"C{number}", day, start_of_day(day) + timedelta(hours=hour))
                for n, (number, day, hour) in enumerate(calls)
            ],
        )
        cursor.executemany(
            "INSERT INTO bandicoot.call_list (call_date, rank, caregiver_id, state, cluster_id, whittle_index, "
            "index_low, index_high, reason, ab_arm, propensity, model_version, run_id, published_at) "
            "VALUES (%s, %s, %s, 'U', 0, 0, 0, 0, 'why', 'treatment', 1, %s, 'run-1', %s)",
            [(day, rank, f"C{number}", MODEL, NIGHT) for rank, (number, day) in enumerate(listings, 1)],
        )


def test_an_unknown_caregiver_has_no_standing(published: psycopg.Connection) -> None:
    rules = LiveRules(DAY, 7, 3, "caregiver")
    assert standing_of(published, rules, "nobody", model_version=MODEL) is None


@pytest.mark.parametrize("index_level", ["caregiver", "cluster"])
def test_before_the_first_list_there_is_no_version(published: psycopg.Connection, index_level: IndexLevel) -> None:
    assert live_version(published, LiveRules(DAY, 7, 3, index_level)) is None


def test_what_a_ranking_depends_on_changes_its_version(published: psycopg.Connection) -> None:
    rules = LiveRules(DAY, 7, 3, "caregiver")
    published.execute(
        "INSERT INTO bandicoot.list_publications (call_date, n_rows, budget, model_version, run_id, published_at, "
        "states_as_of_date) VALUES (%s, 0, 10, %s, 'run-1', %s, %s)",
        (DAY, MODEL, NIGHT, DAY - timedelta(days=1)),
    )
    names = [live_version(published, rules)]
    for change in (
        "INSERT INTO bandicoot.call_outcomes (call_id, caregiver_id, call_date, attempted_at, outcome, recorded_by) "
        "VALUES ('c-1', 'A', DATE '2026-11-20', TIMESTAMPTZ '2026-11-20 05:00Z', 'busy', 'desk 4')",
        "INSERT INTO bandicoot.noted_opens (n_batches) VALUES (1)",
        "UPDATE bandicoot.list_publications SET run_id = 'run-2'",
    ):
        published.execute(change)
        names.append(live_version(published, rules))
    assert None not in names
    assert len({each.name for each in names if each is not None}) == 4
    assert datetime(2026, 11, 20, 5, tzinfo=UTC) > start_of_day(DAY)
