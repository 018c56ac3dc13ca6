"""The order in which eligible caregivers are called, and the draw that keeps some slots for learning.

Two steps, because a caregiver's public id, which breaks the last ties, is not in the lake. `candidates` runs in the
engine over all eligible caregivers and keeps the few who can be on the list; `make_call_list` settles it among them.
Who is eligible belongs to eligibility, how many slots there are to budgets, the wording to reasons.

The order: highest index first; then days since the last call, never called (within the lookback) first, then longest
ago; then md5 of "<caregiver_id>|<call_date>" ascending, as lower-case hex digits. Which index is the option
`index_level`:

- caregiver: own_index, what a call is worth by her own weeks, with and without calls;
- cluster: whittle_index, that of her cluster in her state; then own_index, since hundreds of thousands of caregivers
  share some forty values.

The default is caregiver: with the hundreds of weeks with calls per cluster and state that a running programme has, the
2.5% ranked first by their own index are worth more by their true index, up to twice as much where calls had told
callers apart. With fewer than some forty weeks a cell they are worth as much in programmes drawn at random, and less in
the demo's, whose few types differ sharply in how they respond (docs/model.md has the figures, evaluation.estimation
measures them).

The draw: of a pool's budget, n_explore slots go to those who are left after the slots by order, in ascending order
of md5 of "<caregiver_key>|<call_date>|explore". The finished list is ranked by the order alone, drawn caregivers
among the others, and ranks run through all pools: a health worker sees one list.

Both hashes stand in for chance: they differ from day to day, and the same date gives the same list. Under that
chance, with E = n_exploit, N eligible in the pool and e = n_explore / (N - E) (at most 1, and 0 when N <= E), a
caregiver with `a` pool members strictly ahead of her in the order without the hash, and t tied (herself included),
is listed with the propensity

    1                      when a + t <= E      (certain)
    m/t + (1 - m/t) e      when a < E < a + t   (tied for the last m = E - a slots by order)
    e                      when a >= E          (only by the draw)
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Literal

import ibis
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bandicoot_core.contracts import ACTIVE_TUPLE, CALL_LIST, PASSIVE_TUPLE, STATES, conform
from bandicoot_core.errors import InvalidInputError
from bandicoot_core.policy.budgets import SHARED_POOL, with_slots
from bandicoot_core.policy.reasons import reasons

_ARM = ("cluster_id", "state")
_OWN_ARM = (*PASSIVE_TUPLE, *ACTIVE_TUPLE, *_ARM)
_INDEX_FACTS = ("whittle_index", "index_low", "index_high", "p_passive", "p_active")
IndexLevel = Literal["caregiver", "cluster"]
_INDICES_IN_ORDER: dict[IndexLevel, tuple[str, ...]] = {
    "caregiver": ("own_index",),
    "cluster": ("whittle_index", "own_index"),
}
"""The indices that decide the order, by level, the most important first."""
_BUCKET_DIGITS = 3
"""Hex digits of the draw's hash by which rows are counted: 4,096 buckets a pool, of 244 rows at 1M caregivers."""


def candidates(
    eligible: ibis.Table,
    indices: ibis.Table,
    tuple_indices: ibis.Table,
    pools: pa.Table,
    *,
    call_date: date,
    exploration_share: float,
    index_level: IndexLevel,
) -> ibis.Table:
    """Every row that can be on the list of `call_date`, with what settles it: a few rows more than the budget.

    eligible: rows of with_eligibility that may be called. indices: WHITTLE_INDICES. tuple_indices: TUPLE_INDICES.
    pools: as budget_pools makes them. Besides the columns of `eligible` and of the indices a row has its `pool`,
    `n_ahead` (rows of the pool strictly ahead in the order without the hash), `n_tied`, and of its pool
    `n_eligible`, `n_exploit` and `n_explore`. Per pool the rows are

    - those with n_ahead < n_exploit: who ties for the last slot is there with all her ties;
    - the first n_exploit + n_explore in the order of the draw (rounded up to whole buckets of hashes): however the
      ties turn out, the first n_explore of those who are left are among them.

    Nothing is sorted that has a row per caregiver. Caregivers are counted by what orders them (thousands of
    groups) and by the first digits of their draw's hash; running sums over the counts tell which groups come before
    the cut, and only their rows are taken. A row whose index is missing comes first, so that make_call_list sees it.
    """
    slots = ibis.memtable(with_slots(pools, exploration_share=exploration_share))
    keyed = _with_bucket(with_pool(eligible, pools), call_date)
    standing = standings(with_pool(eligible, pools), indices, tuple_indices, slots, index_level=index_level)

    ahead_of_cut = standing.filter(standing.n_ahead < standing.n_exploit)
    by_order = keyed.semi_join(ahead_of_cut, same_standing(keyed, ahead_of_cut))
    in_draw = _first_buckets(keyed, slots)
    by_draw = keyed.semi_join(in_draw, ["pool", "bucket"])
    chosen = ibis.union(by_order, by_draw, distinct=True).drop("bucket")
    return chosen.inner_join(standing, same_standing(chosen, standing), rname="standing_{name}").select(
        *chosen.columns,
        *(name for name in standing.columns if name not in chosen.columns),
    )


def with_pool(eligible: ibis.Table, pools: pa.Table) -> ibis.Table:
    """The rows with the `pool` whose slots they compete for: their district's own, or the shared one."""
    own_pools = [name for name in pools["pool"].to_pylist() if name != SHARED_POOL]
    has_own_pool = eligible.district.isin(own_pools)  # null for an unknown district, which falls to the shared pool
    return eligible.mutate(pool=has_own_pool.ifelse(eligible.district, SHARED_POOL))


def standings(
    pooled: ibis.Table,
    indices: ibis.Table,
    tuple_indices: ibis.Table,
    slots: ibis.Table,
    *,
    index_level: IndexLevel,
) -> ibis.Table:
    """Where caregivers stand in the order without the hash, one row for each set of facts that decides it.

    pooled: eligible rows with their `pool`. slots: pools with n_exploit and n_explore. Returned per pool, counts,
    cluster, state and last_call_date: the indices, n_ahead, n_tied, n_eligible, n_exploit and n_explore.
    Facts that differ but give the same indices are tied all the same.
    """
    facts = ("pool", *_OWN_ARM, "last_call_date")
    counted = pooled.group_by(*facts).agg(n_alike=ibis._.count())
    arms = indices.select(*_ARM, *_INDEX_FACTS)
    own = tuple_indices.select(*_OWN_ARM, "own_index")
    indexed = counted.left_join(arms, _ARM, rname="arm_{name}").select(*counted.columns, *_INDEX_FACTS)
    indexed = indexed.left_join(own, _OWN_ARM, rname="own_{name}").select(*indexed.columns, "own_index")

    in_order = _INDICES_IN_ORDER[index_level]
    first_to_this = ibis.cumulative_window(
        group_by="pool",
        order_by=[
            *(ibis.desc(name, nulls_first=True) for name in in_order),
            ibis.asc("last_call_date", nulls_first=True),
        ],
    )
    tied = ibis.window(group_by=("pool", *in_order, "last_call_date"))
    stepped = indexed.mutate(n_before=indexed.n_alike.sum().over(first_to_this) - indexed.n_alike)
    standing = stepped.mutate(
        n_ahead=stepped.n_before.min().over(tied),
        n_tied=stepped.n_alike.sum().over(tied),
        n_eligible=stepped.n_alike.sum().over(ibis.window(group_by="pool")),
    )
    return standing.inner_join(slots, "pool").select(
        *facts, *_INDEX_FACTS, "own_index", "n_ahead", "n_tied", "n_eligible", "n_exploit", "n_explore"
    )


def own_indices(assignments: ibis.Table, tuple_indices: ibis.Table) -> ibis.Table:
    """Every assigned caregiver's index from her own weeks in each state, whichever she is in.

    assignments: CLUSTER_ASSIGNMENTS; tuple_indices: TUPLE_INDICES of the same model. Columns caregiver_key,
    cluster_id, own_index_u, own_index_r.
    """
    weeks = (*PASSIVE_TUPLE, *ACTIVE_TUPLE, "cluster_id")
    found = assignments.select("caregiver_key", *weeks)
    for state in STATES:
        name = f"own_index_{state.lower()}"
        of_state = tuple_indices.filter(tuple_indices.state == state).select(*weeks, own_index="own_index")
        found = found.left_join(of_state.rename({name: "own_index"}), weeks, rname="of_{name}").select(
            *found.columns, name
        )
    return found.select("caregiver_key", "cluster_id", *(f"own_index_{state.lower()}" for state in STATES))


def same_standing(rows: ibis.Table, standing: ibis.Table) -> list[ibis.Value]:
    """The join condition between rows with their `pool` and their row of `standings`."""
    return [
        *(rows[name] == standing[name] for name in ("pool", *_OWN_ARM)),
        rows.last_call_date.identical_to(standing.last_call_date),
    ]


def propensities(table: pa.Table) -> np.ndarray:
    """Chance of each row to be listed: float64 ndarray of shape (n_rows,); the formula stands at the top.

    table: columns n_ahead, n_tied, n_eligible, n_exploit, n_explore, as `candidates` returns them.
    """
    ahead, tied, eligible, exploit, explore = (
        table[name].to_numpy().astype(np.float64)
        for name in ("n_ahead", "n_tied", "n_eligible", "n_exploit", "n_explore")
    )
    by_order = np.clip((exploit - ahead) / tied, 0, 1)
    n_left = np.maximum(eligible - exploit, 1)
    by_draw = np.minimum(explore / n_left, 1)
    return by_order + (1 - by_order) * by_draw


def make_call_list(
    candidate_rows: pa.Table,
    caregiver_ids: Mapping[int, str] | pa.Table,
    *,
    call_date: date,
    model_version: str,
    lookback_days: int,
    index_level: IndexLevel,
    p_top_k: np.ndarray,
) -> pa.Table:
    """The ranked list of `call_date` [CALL_LIST]; empty when no pool has a slot or nobody is eligible.

    candidate_rows: what `candidates` returned for the same date, in any order. caregiver_ids: the public id of each
    candidate, as a mapping from caregiver_key or a table (caregiver_key, caregiver_id). p_top_k: of each candidate in
    the order of the rows, (n_rows,), as `top_k` finds it. With more slots than
    eligible caregivers everybody is listed, with propensity 1.

    InvalidInputError when a candidate has no finite index, or no public id.
    """
    if candidate_rows.num_rows == 0:
        return CALL_LIST.empty()
    rows = candidate_rows.append_column("p_top_k", pa.array(p_top_k, pa.float64()))
    rows = rows.append_column("propensity", pa.array(propensities(rows), pa.float64()))
    rows = _in_order(rows, caregiver_ids, call_date=call_date, index_level=index_level)
    pool = _pool_numbers(rows)
    is_by_order = _position_within(pool) < rows["n_exploit"].to_numpy()
    left = np.flatnonzero(np.logical_not(is_by_order))
    drawn_order = left[np.argsort(draw_hashes(rows["caregiver_key"].to_numpy()[left].tolist(), call_date))]
    is_drawn = np.zeros(rows.num_rows, dtype=bool)
    is_drawn[drawn_order] = _position_within(pool[drawn_order]) < rows["n_explore"].to_numpy()[drawn_order]

    rows = rows.append_column("is_drawn", pa.array(is_drawn)).filter(pa.array(is_by_order | is_drawn))
    n_listed = rows.num_rows
    rows = rows.append_column("call_date", pa.array([call_date] * n_listed, pa.date32()))
    rows = rows.append_column("rank", pa.array(np.arange(1, n_listed + 1), pa.int32()))
    rows = rows.append_column("reason", reasons(rows, lookback_days=lookback_days))
    return conform(rows.append_column("model_version", pa.array([model_version] * n_listed, pa.string())), CALL_LIST)


def first_by_order(
    candidate_rows: pa.Table,
    caregiver_ids: Mapping[int, str] | pa.Table,
    *,
    call_date: date,
    index_level: IndexLevel,
) -> pa.Table:
    """The candidates who have a slot by order, first of each pool, in order; arguments as for make_call_list."""
    if candidate_rows.num_rows == 0:
        return candidate_rows
    rows = _in_order(candidate_rows, caregiver_ids, call_date=call_date, index_level=index_level)
    return rows.filter(pa.array(_position_within(_pool_numbers(rows)) < rows["n_exploit"].to_numpy()))


def tie_hashes(caregiver_ids: Sequence[str], call_date: date) -> list[str]:
    """What orders caregivers whom all else leaves tied: md5 of "<caregiver_id>|<call_date>" as hex digits."""
    return _hex_digits(f"{caregiver_id}|{call_date.isoformat()}" for caregiver_id in caregiver_ids)


def draw_hashes(caregiver_keys: Sequence[int], call_date: date) -> list[str]:
    """What orders the draw: md5 of "<caregiver_key>|<call_date>|explore" as hex digits."""
    return _hex_digits(f"{key}|{call_date.isoformat()}|explore" for key in caregiver_keys)


def _in_order(
    candidate_rows: pa.Table,
    caregiver_ids: Mapping[int, str] | pa.Table,
    *,
    call_date: date,
    index_level: IndexLevel,
) -> pa.Table:
    """The rows in the order of the list, of all pools together, with their tie_hash."""
    _require_indices(candidate_rows)
    keys = candidate_rows["caregiver_key"].combine_chunks()
    hashes = tie_hashes(_ids_of(keys, caregiver_ids), call_date)
    rows = candidate_rows.append_column("tie_hash", pa.array(hashes, pa.string()))
    in_order = [
        *((name, "descending", "at_end") for name in _INDICES_IN_ORDER[index_level]),
        ("last_call_date", "ascending", "at_start"),
        ("tie_hash", "ascending", "at_end"),
    ]
    return rows.take(pc.sort_indices(rows, sort_keys=in_order)).combine_chunks()


def _pool_numbers(rows: pa.Table) -> np.ndarray:
    """A number for the pool of each row: int32 ndarray of shape (n_rows,)."""
    numbers: np.ndarray = rows["pool"].combine_chunks().dictionary_encode().indices.to_numpy()
    return numbers


def _hex_digits(texts: Iterable[str]) -> list[str]:
    return [hashlib.md5(text.encode(), usedforsecurity=False).hexdigest() for text in texts]


@ibis.udf.scalar.builtin(name="md5")
def _md5(text: str) -> str:
    """Hash of a text; the engine's own function."""
    raise NotImplementedError("md5 stands for the engine's function; it is not called in Python")


def _with_bucket(table: ibis.Table, call_date: date) -> ibis.Table:
    """The rows with the first digits of the hash that orders the draw, as draw_hashes has it in full.

    Where an engine gives md5 as bytes (BigQuery), the first bytes are taken: finer buckets in the same order.
    """
    text = table.caregiver_key.cast("string") + f"|{call_date.isoformat()}|explore"
    return table.mutate(bucket=_md5(text).substr(0, _BUCKET_DIGITS))


def _first_buckets(keyed: ibis.Table, slots: ibis.Table) -> ibis.Table:
    """The buckets (pool, bucket) that hold the first n_exploit + n_explore rows of a pool's draw."""
    counted = keyed.group_by("pool", "bucket").agg(n_rows=ibis._.count())
    first_to_this = ibis.cumulative_window(group_by="pool", order_by="bucket")
    counted = counted.mutate(n_before=counted.n_rows.sum().over(first_to_this) - counted.n_rows)
    counted = counted.inner_join(slots, "pool")
    is_needed = (counted.n_explore > 0) & (counted.n_before < counted.n_exploit + counted.n_explore)
    return counted.filter(is_needed).select("pool", "bucket")


def _position_within(group: np.ndarray) -> np.ndarray:
    """How many rows of the same group stand before each row: int64 ndarray of the shape of `group`."""
    by_group = np.argsort(group, kind="stable")
    ordered = group[by_group]
    first = np.searchsorted(ordered, ordered)
    position = np.empty(len(group), dtype=np.int64)
    position[by_group] = np.arange(len(group)) - first
    return position


def _require_indices(rows: pa.Table) -> None:
    for name, source, key in (
        ("whittle_index", "whittle_indices", _ARM),
        ("own_index", "tuple_indices", _OWN_ARM),
    ):
        is_finite = pc.fill_null(pc.is_finite(rows[name]), False)
        without = rows.filter(pc.invert(is_finite))
        if without.num_rows:
            first = ", ".join(f"{column}={without[column][0].as_py()}" for column in key)
            raise InvalidInputError(
                f"{source}: {without.num_rows} eligible caregivers have no finite {name} "
                f"(first: {first}); the model and the assignments do not belong together; "
                "materialize cluster_assignments and whittle_indices of the same week again"
            )


def _ids_of(keys: pa.Array, caregiver_ids: Mapping[int, str] | pa.Table) -> list[str]:
    if isinstance(caregiver_ids, pa.Table):
        known_keys, known_ids = caregiver_ids["caregiver_key"], caregiver_ids["caregiver_id"]
    else:
        known_keys = pa.array(list(caregiver_ids.keys()), pa.int64())
        known_ids = pa.array(list(caregiver_ids.values()), pa.string())
    ids = known_ids.take(pc.index_in(keys, value_set=known_keys.cast(keys.type)))
    if ids.null_count:
        missing = keys.filter(pc.is_null(ids))
        raise InvalidInputError(
            f"caregiver_keys: {len(missing)} of {len(keys)} candidates have no caregiver_id "
            f"(first: caregiver_key={missing[0]}); the lake and bandicoot.caregiver_keys do not belong together; "
            "restore the keys before a list is made"
        )
    names: list[str] = ids.to_pylist()
    return names
