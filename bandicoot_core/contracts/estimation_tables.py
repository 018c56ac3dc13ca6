"""The tables that compare estimators of what calls do, and the model with the calls that chance chose."""

from bandicoot_core.contracts.table_contract import Column, TableContract

ESTIMATION = TableContract(
    "estimation",
    "How far each estimator is from the truth of simulated programmes, and how well it predicts held-out weeks",
    (
        Column(
            "programme",
            "string",
            "Where the numbers come from: types drawn at random, the same without any effect of calls, a few types "
            "that differ sharply in what a call does, or the held-out weeks of a history",
        ),
        Column("n_active", "float64", "Active weeks per cluster and state, on average", unit="caregiver-weeks"),
        Column("estimator", "string", "Name of the estimator"),
        Column("n_programmes", "int64", "Programmes the numbers are means over", unit="programmes", minimum=1),
        Column("passive_error", "float64", "Mean absolute error of passive chances", is_nullable=True, minimum=0),
        Column("active_error", "float64", "Mean absolute error of active chances", is_nullable=True, minimum=0),
        Column("lift_error", "float64", "Mean absolute error of active minus passive", is_nullable=True, minimum=0),
        Column(
            "listed_index",
            "float64",
            "Estimated index of the 2.5% ranked first: above the truth where calls do nothing",
            unit="responsive weeks",
            is_nullable=True,
        ),
        Column(
            "cluster_share",
            "float64",
            "True index of the 2.5% ranked first by their cluster's index, as a share of what the true chances of the "
            "clusters reach, both above calling at random",
            is_nullable=True,
        ),
        Column(
            "caregiver_share",
            "float64",
            "The same for the 2.5% ranked first by their own index",
            is_nullable=True,
        ),
        Column(
            "passive_coverage", "float64", "Share of passive intervals that hold the truth", is_nullable=True, minimum=0
        ),
        Column(
            "active_coverage", "float64", "Share of active intervals that hold the truth", is_nullable=True, minimum=0
        ),
        Column(
            "index_coverage", "float64", "Share of index intervals that hold the truth", is_nullable=True, minimum=0
        ),
        Column(
            "log_loss",
            "float64",
            "Log loss of active transitions that were held out",
            unit="nats per transition",
            is_nullable=True,
            minimum=0,
        ),
    ),
    key=("programme", "n_active", "estimator"),
    sort_by=("programme", "n_active", "estimator"),
)

DRAWN_CALLS = TableContract(
    "drawn_calls",
    "What listed and called caregivers did next, beside what the model says, by what put them on the list",
    (
        Column(
            "chosen_by",
            "string",
            "draw: listed by chance (propensity below 1), weighted by 1 / propensity; order: listed for certain",
            allowed=("draw", "order"),
        ),
        Column("state", "string", "State in the week of the call, or any", allowed=("any", "R", "U")),
        Column("n_calls", "int64", "Calls whose next week is known", minimum=1),
        Column("p_responsive", "float64", "Share responsive in the next week", minimum=0, maximum=1),
        Column("p_fitted", "float64", "The same by the model, given her weeks up to the call", minimum=0, maximum=1),
        Column("difference", "float64", "Share responsive minus fitted"),
        Column("low", "float64", "Lower end of the 95% interval of the difference"),
        Column("high", "float64", "Upper end of the 95% interval of the difference"),
    ),
    key=("chosen_by", "state"),
    sort_by=("chosen_by", "state"),
)
