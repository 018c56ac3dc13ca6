import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bandicoot_core.contracts import PASSIVE_TUPLE
from bandicoot_core.model.indices import index_table, tuple_index_table
from bandicoot_core.model.whittle import two_state_indices
from tests.core.model.transition_rows import transitions_of


def indices_of(transitions: pa.Table, n_draws: int = 300, seed: int = 7, interval: float = 0.9) -> pa.Table:
    return index_table(transitions, discount=0.95, interval=interval, n_draws=n_draws, seed=seed)


def combos_of(*rows: tuple[int, ...]) -> pa.Table:
    """Rows of n_rr, n_ru, n_ur, n_uu, cluster_id."""
    return pa.table({name: [row[i] for row in rows] for i, name in enumerate((*PASSIVE_TUPLE, "cluster_id"))})


# Posterior means: passive (0.10, 0.60), active (0.50, 0.85); the example of the closed form.
EXAMPLE = transitions_of((59, 39, 9, 89, 84, 14, 49, 49))
SECOND = transitions_of((59, 39, 9, 89, 84, 14, 49, 49), (20, 1, 5, 5, 8, 0, 3, 1))


def test_the_index_is_the_closed_form_of_the_posterior_means() -> None:
    rows = indices_of(EXAMPLE).to_pylist()
    assert [(row["cluster_id"], row["state"]) for row in rows] == [(0, "R"), (0, "U")]
    assert [row["whittle_index"] for row in rows] == pytest.approx([0.3558, 0.7238], abs=5e-5)
    assert [row["p_passive"] for row in rows] == pytest.approx([0.60, 0.10])
    assert [row["p_active"] for row in rows] == pytest.approx([0.85, 0.50])
    assert [row["is_indexable"] for row in rows] == [True, True]


def test_intervals_are_reproducible_and_depend_on_the_seed() -> None:
    assert indices_of(SECOND) == indices_of(SECOND)
    assert indices_of(SECOND, seed=8)["index_low"] != indices_of(SECOND)["index_low"]


def test_a_further_cluster_does_not_change_the_intervals_of_the_others() -> None:
    assert indices_of(SECOND).slice(0, 2) == indices_of(EXAMPLE)


def test_clusters_with_equal_evidence_have_draws_of_their_own() -> None:
    row = (59, 39, 9, 89, 84, 14, 49, 49)
    table = indices_of(transitions_of(row, row))
    assert table["whittle_index"][0] == table["whittle_index"][2]
    assert table["index_low"][0] != table["index_low"][2]


def test_more_evidence_and_less_certainty_make_narrower_intervals() -> None:
    def widths(table: pa.Table) -> np.ndarray:
        return table["index_high"].to_numpy() - table["index_low"].to_numpy()

    more = transitions_of((599, 399, 99, 899, 849, 149, 499, 499))
    assert (widths(indices_of(more)) < 0.5 * widths(indices_of(EXAMPLE))).all()
    assert (widths(indices_of(EXAMPLE, interval=0.5)) < widths(indices_of(EXAMPLE))).all()


def test_nine_in_ten_intervals_hold_the_index_of_the_truth() -> None:
    random = np.random.default_rng(5)
    truth = random.random((250, 4))
    n = random.integers(20, 200, (250, 4))
    to_r = random.binomial(n, truth)
    counts = np.stack([to_r, n - to_r], axis=-1).reshape(250, 8)
    table = indices_of(transitions_of(*(tuple(row) for row in counts.tolist())), n_draws=500)
    # Columns of truth: R passive, U passive, R active, U active; the table lists R before U.
    true_index = two_state_indices(truth[:, [1, 0]], truth[:, [3, 2]], discount=0.95)[:, ::-1].ravel()
    is_covered = (table["index_low"].to_numpy() <= true_index) & (true_index <= table["index_high"].to_numpy())
    assert is_covered.mean() == pytest.approx(0.9, abs=0.04)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(st.tuples(*[st.integers(0, 300)] * 8), min_size=1, max_size=3), st.floats(0.05, 0.95))
def test_the_index_always_lies_inside_its_interval(rows: list[tuple[int, ...]], interval: float) -> None:
    table = indices_of(transitions_of(*rows), n_draws=20, interval=interval)
    index, low, high = (table[name].to_numpy() for name in ("whittle_index", "index_low", "index_high"))
    assert np.isfinite(index).all()
    assert ((low <= index) & (index <= high)).all()


@pytest.mark.parametrize(("name", "value"), [("interval", 1.0), ("n_draws", 0), ("discount", 1.0)])
def test_numbers_out_of_bounds_are_refused(name: str, value: float) -> None:
    arguments = {"discount": 0.95, "interval": 0.9, "n_draws": 100, "seed": 7, name: value}
    with pytest.raises(ValueError, match=name):
        index_table(EXAMPLE, **arguments)


def test_a_chance_of_exactly_one_is_refused() -> None:
    certain = EXAMPLE.set_column(5, "p_next_r", pa.array([1.0, 0.6, 0.5, 0.1]))
    with pytest.raises(ValueError, match=r"p_next_r: values from 0.1 to 1.0.*with a prior"):
        indices_of(certain)


def test_without_weeks_of_her_own_she_has_the_index_of_her_cluster() -> None:
    own = tuple_index_table(combos_of((0, 0, 0, 0, 1), (0, 0, 0, 0, 0)), SECOND, prior_weight=2.0, discount=0.95)
    clusters = indices_of(SECOND)
    assert own["cluster_id"].to_pylist() == [0, 0, 1, 1]
    assert own["state"].to_pylist() == ["R", "U", "R", "U"]
    np.testing.assert_allclose(own["own_index"].to_numpy(), clusters["whittle_index"].to_numpy(), rtol=1e-12)


def test_her_own_weeks_move_the_passive_chance_and_a_call_adds_the_lift_in_log_odds() -> None:
    own = tuple_index_table(combos_of((6, 2, 1, 7, 0)), EXAMPLE, prior_weight=2.0, discount=0.95)
    p_u, p_r = (1 + 2 * 0.10) / 10, (6 + 2 * 0.60) / 10
    # Odds multiply: from U by (1) / (1/9) = 9, from R by (85/15) / (60/40).
    odds_u, odds_r = 9 * p_u / (1 - p_u), (85 / 15) / (60 / 40) * p_r / (1 - p_r)
    expected = two_state_indices([p_u, p_r], [odds_u / (1 + odds_u), odds_r / (1 + odds_r)], discount=0.95)
    np.testing.assert_allclose(own["own_index"].to_numpy(), expected[::-1], rtol=1e-12)


def test_both_states_of_every_combination_are_there_and_sorted() -> None:
    combos = combos_of((6, 2, 1, 7, 1), (0, 0, 0, 3, 0), (6, 2, 1, 7, 0))
    own = tuple_index_table(combos, SECOND, prior_weight=2.0, discount=0.95)
    rows = own.select(["n_rr", "cluster_id", "state"]).to_pylist()
    assert [tuple(row.values()) for row in rows] == [
        (0, 0, "R"),
        (0, 0, "U"),
        (6, 0, "R"),
        (6, 0, "U"),
        (6, 1, "R"),
        (6, 1, "U"),
    ]
    assert own == tuple_index_table(combos.take([2, 0, 1]), SECOND, prior_weight=2.0, discount=0.95)


def test_a_cluster_of_another_model_is_refused() -> None:
    with pytest.raises(ValueError, match=r"combos.cluster_id: \[2\] are not among the clusters 0 to 1"):
        tuple_index_table(combos_of((0, 0, 0, 0, 2)), SECOND, prior_weight=2.0, discount=0.95)


def test_no_combinations_give_an_empty_table() -> None:
    assert tuple_index_table(combos_of(), EXAMPLE, prior_weight=2.0, discount=0.95).num_rows == 0
