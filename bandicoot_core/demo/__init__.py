"""The demo: a synthetic vaccination-reminder programme whose truth is known.

It writes the tables that production has, so that everything behind them walks the production path, and beside them,
as Parquet, what production never tells: every caregiver's behavioural type and hidden weekly states. Only evaluation
and tests may read that truth.
"""

from bandicoot_core.demo.load import DemoSummary, extend, fill
from bandicoot_core.demo.programme import Programme
from bandicoot_core.demo.source_schema import create_source_schema
from bandicoot_core.demo.stored import stored_programme
from bandicoot_core.demo.truth import is_truth_of

__all__ = [
    "DemoSummary",
    "Programme",
    "create_source_schema",
    "extend",
    "fill",
    "is_truth_of",
    "stored_programme",
]
