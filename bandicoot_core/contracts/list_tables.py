"""Tables of the call list: before publication, as published, and what comes back."""

from dataclasses import replace

from bandicoot_core.contracts.columns import (
    AB_ARM_COLUMN,
    CAREGIVER_ID_COLUMN,
    CAREGIVER_KEY_COLUMN,
    CLUSTER_ID_COLUMN,
    DISTRICT_COLUMN,
    state_column,
)
from bandicoot_core.contracts.table_contract import Column, TableContract
from bandicoot_core.contracts.vocabulary import CALL_OUTCOMES

_LIST_FACTS = (
    DISTRICT_COLUMN,
    state_column("State in the 7 days before the list"),
    CLUSTER_ID_COLUMN,
    Column("whittle_index", "float64", "What a call is worth to her cluster in her state", unit="responsive weeks"),
    Column("index_low", "float64", "Lower end of the interval of whittle_index", unit="responsive weeks"),
    Column("index_high", "float64", "Upper end of the interval of whittle_index", unit="responsive weeks"),
    Column("reason", "string", "Why she is on the list, for the health worker"),
    Column(
        "days_since_last_open",
        "int16",
        "Days since the last open; empty when none in the lookback",
        unit="days",
        is_nullable=True,
        minimum=1,
    ),
    Column("last_call_date", "date", "Last day a call was attempted", unit="IST day", is_nullable=True),
    AB_ARM_COLUMN,
    Column("propensity", "float64", "Chance with which the draw put her on the list", minimum=0, maximum=1),
    Column("model_version", "string", "Champion model the list was made with"),
)

_KNOWLEDGE = (
    Column("own_index", "float64", "What a call is worth to her, by her own weeks", unit="responsive weeks"),
    Column(
        "p_top_k",
        "float64",
        "Chance that she is truly among the K worth most, K being the day's budget",
        minimum=0,
        maximum=1,
    ),
)

_CALL_DATE = Column("call_date", "date", "Day on which to call", unit="IST day")
_RANK = Column("rank", "int32", "Order in which to call, 1 first", minimum=1)

CALL_LIST = TableContract(
    "call_list",
    "The ranked list of a day, before publication",
    (_CALL_DATE, _RANK, CAREGIVER_KEY_COLUMN, *_LIST_FACTS, *_KNOWLEDGE),
    key=("call_date", "caregiver_key"),
    sort_by=("call_date", "rank"),
)

PUBLISHED_CALL_LIST = TableContract(
    "published_call_list",
    "The call list as downstream systems read it (bandicoot.call_list and the view bandicoot.current_call_list)",
    (
        _CALL_DATE,
        _RANK,
        CAREGIVER_ID_COLUMN,
        *_LIST_FACTS,
        Column("run_id", "string", "Run that published the row"),
        Column("published_at", "timestamp", "When it was published", unit="UTC"),
        # Lists that were published before these were known have none.
        *(
            replace(column, description=f"{column.description}; empty in lists of older releases", is_nullable=True)
            for column in _KNOWLEDGE
        ),
    ),
    key=("call_date", "caregiver_id"),
    sort_by=("call_date", "rank"),
)

CALL_OUTCOMES_TABLE = TableContract(
    "call_outcomes",
    "What downstream writes back: one row per attempted call",
    (
        Column("call_id", "string", "Idempotency key, chosen by the writer"),
        CAREGIVER_ID_COLUMN,
        Column("call_date", "date", "Day of the list the call came from", unit="IST day"),
        Column("attempted_at", "timestamp", "When the call was attempted", unit="UTC"),
        Column("outcome", "string", "What came of it", allowed=CALL_OUTCOMES),
        Column("recorded_by", "string", "Who recorded it"),
    ),
    key=("call_id",),
    sort_by=("call_id",),
)

PENDING_CAREGIVERS = TableContract(
    "pending_caregivers",
    "Caregivers who were on an earlier list and still waited for a call when the list of a day was made",
    (CAREGIVER_KEY_COLUMN,),
    key=("caregiver_key",),
    sort_by=("caregiver_key",),
)
