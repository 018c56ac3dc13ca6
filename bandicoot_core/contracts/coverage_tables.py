"""Tables about whom the calls reach: coverage by group."""

from bandicoot_core.contracts.table_contract import Column, TableContract

COVERAGE_DIMENSIONS = ("all", "district", "parity", "age band")

COVERAGE = TableContract(
    "coverage",
    "Whom the calls reach: groups of caregivers of active status whose warm-up is over and who are not in control",
    (
        Column("dimension", "string", "What the groups differ in", allowed=COVERAGE_DIMENSIONS),
        Column("group", "string", "The group; '(unknown)' where the registry says nothing"),
        Column("n_caregivers", "int64", "Caregivers in the group", unit="caregivers", minimum=0),
        Column("n_responsive", "int64", "Of them responsive at the end of the day", unit="caregivers", minimum=0),
        Column("n_called", "int64", "Of them called in the window", unit="caregivers", minimum=0),
        Column("n_calls", "int64", "Calls attempted in the window", unit="calls", minimum=0),
        Column("share_called", "float64", "n_called / n_caregivers", minimum=0, maximum=1),
        Column("share_of_calls", "float64", "Share of the dimension's calls that went to the group", minimum=0),
        Column("share_of_caregivers", "float64", "Share of the dimension's caregivers in the group", minimum=0),
        Column("index_p10", "float64", "Index that 1 in 10 lies below", unit="responsive weeks", is_nullable=True),
        Column("index_p50", "float64", "Median index", unit="responsive weeks", is_nullable=True),
        Column("index_p90", "float64", "Index that 9 in 10 lie below", unit="responsive weeks", is_nullable=True),
        Column(
            "longest_wait_days",
            "int64",
            "Longest time since a call, or since the warm-up ended; a call before the lookback is not known",
            unit="days",
            is_nullable=True,
            minimum=0,
        ),
        Column("n_waiting_longest", "int64", "Caregivers without a call in the lookback", unit="caregivers", minimum=0),
    ),
    key=("dimension", "group"),
    sort_by=("dimension", "group"),
)
