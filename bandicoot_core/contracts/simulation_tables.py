"""Tables of the policy simulation: what each policy reaches, and what one more call would be worth."""

from bandicoot_core.contracts.table_contract import Column, TableContract

_COHORT = Column("cohort", "string", "Kind of cohort that was simulated: a generator's name, or fitted")
_N_COHORTS = Column("n_cohorts", "int64", "Cohorts of the kind that were averaged over", unit="cohorts", minimum=1)

POLICY_SIMULATION = TableContract(
    "policy_simulation",
    "What each policy reaches on simulated cohorts: drops prevented, and its share of what can be gained at most",
    (
        _COHORT,
        Column("policy", "string", "Policy; none is no calls, fluid_bound what no policy can exceed"),
        Column("budget", "int64", "Calls a week", unit="calls", minimum=0),
        _N_COHORTS,
        Column("n_trials", "int64", "Trials of each cohort", unit="trials", minimum=1),
        Column(
            "drops_prevented",
            "float64",
            "Share of the engagement drops without calls that the policy prevents; empty when there are none",
            is_nullable=True,
        ),
        Column("drops_prevented_low", "float64", "Lower end of its interval", is_nullable=True),
        Column("drops_prevented_high", "float64", "Upper end of its interval", is_nullable=True),
        Column(
            "share_of_gain",
            "float64",
            "Share of the gain over no calls that the bound allows; empty when nothing can be gained",
            is_nullable=True,
        ),
        Column("share_of_gain_low", "float64", "Lower end of its interval", is_nullable=True),
        Column("share_of_gain_high", "float64", "Upper end of its interval", is_nullable=True),
        Column("responsive_weeks", "float64", "Responsive weeks per cohort", unit="caregiver-weeks", minimum=0),
    ),
    key=("cohort", "policy", "budget"),
    sort_by=("cohort", "budget", "policy"),
)

CALL_WORTH = TableContract(
    "call_worth",
    "What one more call a week would add at best, by week and by who competes for it",
    (
        _COHORT,
        Column("week", "int16", "Round of calls, the first being 1", unit="weeks", minimum=1),
        Column(
            "pool",
            "string",
            "District with calls of its own; empty for the calls that all other districts share",
        ),
        _N_COHORTS,
        Column("n_caregivers", "float64", "Caregivers who compete, per cohort", unit="caregivers", minimum=0),
        Column("budget", "float64", "Calls the pool has, per cohort", unit="calls", minimum=0),
        Column("n_calls", "float64", "Calls the bound makes of them, per cohort", unit="calls", minimum=0),
        Column(
            "worth_of_one_more_call",
            "float64",
            "Responsive weeks that one more call would add, at the bound",
            unit="responsive weeks",
            minimum=0,
        ),
    ),
    key=("cohort", "week", "pool"),
    sort_by=("cohort", "pool", "week"),
)
