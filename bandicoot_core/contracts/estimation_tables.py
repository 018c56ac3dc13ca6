"""The table that compares estimators of what calls do."""

from bandicoot_core.contracts.table_contract import Column, TableContract

ESTIMATION = TableContract(
    "estimation",
    "How far each estimator is from the truth of simulated programmes, and how well it predicts held-out weeks",
    (
        Column(
            "programme",
            "string",
            "Where the numbers come from: types drawn at random, the same without any effect of calls, a given set of "
            "types, or the held-out weeks of a history",
        ),
        Column("n_active", "float64", "Active weeks per cluster and state, on average", unit="caregiver-weeks"),
        Column("estimator", "string", "Name of the estimator"),
        Column("n_programmes", "int64", "Programmes the numbers are means over", minimum=1),
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
