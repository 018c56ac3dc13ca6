"""Columns that several tables share, so that one quantity has one name, type and description everywhere."""

from bandicoot_core.contracts.table_contract import Column
from bandicoot_core.contracts.vocabulary import ASSIGNMENT_METHODS, EXPERIMENT_ARMS, STATES


def state_column(description: str) -> Column:
    """The state of a row, with what it is the state of."""
    return Column("state", "string", description, allowed=STATES)


CAREGIVER_KEY_COLUMN = Column(
    "caregiver_key", "int64", "Caregiver, pseudonymous; stable within an installation", minimum=1
)
CAREGIVER_ID_COLUMN = Column("caregiver_id", "string", "Caregiver as the source names her, for example CG-12345")
CLUSTER_ID_COLUMN = Column(
    "cluster_id", "int16", "Cluster of passive behaviour; ids ascend with P(R|U), then P(R|R)", minimum=0
)
ASSIGNED_BY_COLUMN = Column(
    "assigned_by", "string", "From her own history or from her registry features", allowed=ASSIGNMENT_METHODS
)
DISTRICT_COLUMN = Column("district", "string", "District of the registry; empty when unknown", is_nullable=True)
AB_ARM_COLUMN = Column("ab_arm", "string", "Arm of the running experiment", allowed=EXPERIMENT_ARMS)


def tuple_columns(kind: str = "passive", prefix: str = "n") -> tuple[Column, ...]:
    """The four transition counts of an action."""
    return tuple(
        Column(
            f"{prefix}_{a}{b}",
            "int16",
            f"{kind.capitalize()} weeks from {a.upper()} to {b.upper()}",
            unit="weeks",
            minimum=0,
            maximum=61,
        )
        for a in "ru"
        for b in "ru"
    )
