"""The list of a day as it would be with other options, beside the one that stands; nothing is written anywhere.

It follows from what the standing list was made of, or else from what it would be made of now (list_basis).
"""

from dataclasses import dataclass
from datetime import date

import pyarrow as pa

from bandicoot_core.checks import CheckOutcome, blocking_failures
from bandicoot_core.contracts import CALL_LIST
from bandicoot_core.pipeline.list_basis import ListBasis, control_keys_of, draw_on, has_states_of, inputs_of, list_basis
from bandicoot_core.policy.call_list import DrawnList
from bandicoot_core.policy.checks import list_checks
from bandicoot_core.policy.list_comparison import ListComparison, compare_lists
from bandicoot_core.settings import ListOptions
from bandicoot_core.stores.installation import Installation
from bandicoot_core.stores.published.suppression import forgotten_keys, without_keys


@dataclass(frozen=True)
class WhatIf:
    """A list that was only tried."""

    basis: ListBasis
    drawn: DrawnList
    outcomes: tuple[CheckOutcome, ...]
    """What the checks would say of it."""
    comparison: ListComparison | None
    """Against the list that stands; None when there is none."""
    summary: str


def what_if_call_list(
    stores: Installation, call_date: date, options: ListOptions, *, as_of_day: date | None = None
) -> WhatIf:
    """Draw and check the list of a day with other options, and compare it with the one in the lake.

    `as_of_day` is the day at whose end the states are taken, by default that of the standing list, or the day before.
    Errors as of materialize_call_list.
    """
    with stores.published() as connection, stores.engine() as engine, stores.lake.reader(engine) as reader:
        basis = list_basis(stores, connection, call_date, options=options, as_of_day=as_of_day)
        forgotten = forgotten_keys(connection)
        drawn = draw_on(connection, inputs_of(stores, reader, basis, forgotten), basis)
        outcomes = list_checks(
            drawn.call_list,
            state_counts=drawn.state_counts,
            n_eligible=drawn.n_eligible,
            control_keys=control_keys_of(reader, basis.as_of_day, drawn.call_list),
            options=drawn.options,
            call_date=call_date,
        )
        has_same_states = has_states_of(basis.standing, reader)
    comparison = None
    if basis.standing is not None:
        standing = without_keys(stores.lake.read(CALL_LIST, "call_list", call_date.isoformat()), forgotten)
        comparison = compare_lists(standing, drawn.call_list)
    summary = _summary(basis, drawn.call_list, outcomes, comparison, has_same_states=has_same_states)
    return WhatIf(basis, drawn, outcomes, comparison, summary)


def _summary(
    basis: ListBasis,
    call_list: pa.Table,
    outcomes: tuple[CheckOutcome, ...],
    comparison: ListComparison | None,
    *,
    has_same_states: bool,
) -> str:
    told = [f"{call_list.num_rows} caregivers would be on the list of {basis.call_date}."]
    if comparison is None:
        told.append("No list of that day was made yet, so there is none to compare with.")
    else:
        told.append(
            f"Of the list that stands {comparison.n_stay} would stay and {comparison.dropped_out.num_rows} drop out; "
            f"{comparison.came_in.num_rows} would come in."
        )
    if not has_same_states:
        told.append("It is made from other states than the list that stands: another day's, or renewed since.")
    refusals = [failure.name for failure in blocking_failures(outcomes)]
    if refusals:
        told.append(f"Its checks would refuse it: {', '.join(refusals)}.")
    told.append("Nothing was written or published.")
    return " ".join(told)
