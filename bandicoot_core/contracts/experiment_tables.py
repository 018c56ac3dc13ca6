"""Tables of the experiment report: effects, their course, balance of the arms, and values of other policies."""

from bandicoot_core.contracts.table_contract import Column, TableContract

EXPERIMENT_OUTCOMES = ("responsive_weeks", "doses_on_time")
"""Share of a caregiver's weeks in which she was responsive; doses given on time, per dose due."""

OFF_POLICY_ESTIMATORS = ("ips", "snips", "doubly_robust")

_OUTCOME = Column("outcome", "string", "What is compared between the arms", allowed=EXPERIMENT_OUTCOMES)

EXPERIMENT_EFFECTS = TableContract(
    "experiment_effects",
    "What being in the treatment arm changes, since the share in force began",
    (
        _OUTCOME,
        Column("estimate", "float64", "Effect of being in treatment, adjusted for the time before", unit="share"),
        Column("low", "float64", "Lower end of the 95 % interval, by redrawing the arms", unit="share"),
        Column("high", "float64", "Upper end of the 95 % interval", unit="share"),
        Column("p_value", "float64", "Chance of so large a difference if treatment did nothing", minimum=0, maximum=1),
        Column("treatment_mean", "float64", "Mean of the outcome in treatment, not adjusted", unit="share"),
        Column("control_mean", "float64", "Mean of the outcome in control, not adjusted", unit="share"),
        Column("n_treatment", "int64", "Caregivers of the treatment arm compared", unit="caregivers", minimum=0),
        Column("n_control", "int64", "Caregivers of the control arm compared", unit="caregivers", minimum=0),
        Column(
            "detectable_effect", "float64", "Effect that so many caregivers find four times out of five", unit="share"
        ),
    ),
    key=("outcome",),
    sort_by=("outcome",),
)

EXPERIMENT_WEEKS = TableContract(
    "experiment_weeks",
    "The effect on responsive weeks as it stood at the end of each week, with an interval that may be looked at weekly",
    (
        Column("week_date", "date", "Last week counted, named by its Sunday", unit="IST week"),
        Column("estimate", "float64", "Effect over the weeks up to this one", unit="share"),
        Column("low", "float64", "Lower end of the always-valid 95 % interval", unit="share"),
        Column("high", "float64", "Upper end of the always-valid 95 % interval", unit="share"),
        Column("standard_error", "float64", "Standard error of the estimate", unit="share"),
        Column("n_caregivers", "int64", "Caregivers counted", unit="caregivers", minimum=0),
    ),
    key=("week_date",),
    sort_by=("week_date",),
)

EXPERIMENT_BALANCE = TableContract(
    "experiment_balance",
    "Whether the arms were alike before treatment, one row for each fact or level of a fact",
    (
        Column("fact", "string", "Registry fact, or engagement before treatment"),
        Column("level", "string", "Level whose share is compared; empty for the mean of a number", is_nullable=True),
        Column("treatment_mean", "float64", "Mean, or share of the level, in the treatment arm"),
        Column("control_mean", "float64", "Mean, or share of the level, in the control arm"),
        Column("standardized_difference", "float64", "Difference of the means in standard deviations", unit="sd"),
        Column("p_value", "float64", "Chance of so large a difference by the draw alone", minimum=0, maximum=1),
    ),
    key=("fact", "level"),
    sort_by=("fact", "level"),
)

OFF_POLICY_VALUES = TableContract(
    "off_policy_values",
    "What other ways of choosing would have gained per call, from the chances recorded with the lists",
    (
        Column("policy", "string", "Way of choosing whom to call"),
        Column("estimator", "string", "How its value is estimated", allowed=OFF_POLICY_ESTIMATORS),
        Column(
            "value",
            "float64",
            "Chance to be responsive in the week after the call, above that of like caregivers in the control arm; "
            "empty where the lists say nothing about the policy",
            unit="responsive caregivers per call",
            is_nullable=True,
        ),
        Column("low", "float64", "Lower end of the 95 % interval of the value", is_nullable=True),
        Column("high", "float64", "Upper end of the 95 % interval of the value", is_nullable=True),
        Column(
            "p_responsive_called",
            "float64",
            "Chance to be responsive in the week after, of those the policy calls",
            is_nullable=True,
        ),
        Column(
            "p_responsive_control",
            "float64",
            "The same of like caregivers in the control arm, who are not called",
            minimum=0,
            maximum=1,
        ),
        Column("overlap", "float64", "Share of the policy's calls that the lists could have made", minimum=0),
        Column("n_effective", "float64", "Listed caregivers behind the value, by their weights", minimum=0),
        Column("n_listed", "int64", "Listed caregivers with a known outcome", unit="caregivers", minimum=0),
    ),
    key=("policy", "estimator"),
    sort_by=("policy", "estimator"),
)
