"""Tables of the backtest: how well models of earlier weeks predicted the weeks that followed."""

from collections.abc import Sequence

from bandicoot_core.contracts.table_contract import Column, TableContract

MODEL = "model"
PERSISTENCE = "persistence"
STAYS = "stays"
POPULATION_RATE = "population_rate"
PREDICTORS = (MODEL, PERSISTENCE, STAYS, POPULATION_RATE)
"""The model and the baselines it is held against, in the order of charts."""

BACKTEST_SCOPES = ("all", "district", "cluster", "action", "assigned_by")
"""What a score is taken over: everybody, or the parts of one grouping."""


def _predictor_column(allowed: Sequence[str] = PREDICTORS) -> Column:
    return Column("predictor", "string", "Whose prediction: the model's or a baseline's", allowed=tuple(allowed))


_HORIZON = Column("horizon", "int16", "Weeks ahead of the origin", unit="weeks", minimum=1)
_N_WEEKS = Column("n_caregiver_weeks", "int64", "Predictions scored", unit="caregiver-weeks", minimum=1)

MODEL_BACKTEST = TableContract(
    "model_backtest",
    "How well models trained up to an earlier week predicted the weeks after it, against baselines",
    (
        Column("origin_week", "date", "Last week the model was trained on", unit="IST Sunday"),
        _HORIZON,
        Column("scope", "string", "What the score is taken over", allowed=BACKTEST_SCOPES),
        Column(
            "scope_value",
            "string",
            "Which part of the scope: a district, a cluster of that origin, the action of the last week before the "
            "one predicted, or how the caregiver got her cluster",
        ),
        _predictor_column(),
        _N_WEEKS,
        Column("log_loss", "float64", "Mean of -log P(what happened); lower is better", unit="nats", minimum=0),
        Column(
            "log_loss_error",
            "float64",
            "Standard error of log_loss, caregivers taken for independent",
            unit="nats",
            minimum=0,
        ),
        Column("brier", "float64", "Mean squared error of P(R); lower is better", minimum=0, maximum=1),
    ),
    key=("origin_week", "horizon", "scope", "scope_value", "predictor"),
    sort_by=("origin_week", "horizon", "scope", "scope_value", "predictor"),
)

CALIBRATION = TableContract(
    "calibration",
    "Predicted chances to be responsive against how often it came true, in bins of equal width, origins pooled",
    (
        _HORIZON,
        _predictor_column(),
        Column("bin", "int16", "Bin k holds predictions from k/10 to (k+1)/10", minimum=0, maximum=9),
        _N_WEEKS,
        Column("mean_predicted", "float64", "Mean predicted P(R)", minimum=0, maximum=1),
        Column("observed_share", "float64", "Share that was responsive", minimum=0, maximum=1),
        Column("share_low", "float64", "Lower end of the share's 90% interval", minimum=0, maximum=1),
        Column("share_high", "float64", "Upper end of the share's 90% interval", minimum=0, maximum=1),
    ),
    key=("horizon", "predictor", "bin"),
    sort_by=("horizon", "predictor", "bin"),
)

MEMORY_TEST = TableContract(
    "memory_test",
    "What the chain's past adds to its present state: gains in log loss of richer states on held-out weeks",
    (
        Column("richer_state", "string", "What is known beside state, cluster and action"),
        Column("n_caregiver_weeks", "int64", "Held-out weeks scored", unit="caregiver-weeks", minimum=0),
        Column("log_loss", "float64", "Held-out mean log loss with the richer state", unit="nats", minimum=0),
        Column("gain", "float64", "Log loss of the two-state chain minus that", unit="nats per caregiver-week"),
        Column("gain_error", "float64", "Standard error of the gain", unit="nats per caregiver-week", minimum=0),
        Column("likelihood_ratio", "float64", "Twice the gain in log-likelihood on the training weeks", minimum=0),
        Column("n_degrees", "int64", "Degrees of freedom of the ratio", minimum=0),
        Column("p_value", "float64", "Chance of such a ratio if the two-state chain were enough", minimum=0, maximum=1),
    ),
    key=("richer_state",),
)
