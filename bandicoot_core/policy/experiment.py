"""Who is in which arm of the running experiment: strata, permuted blocks within them, and the rollout share.

Only the draw belongs here: storing it is done by stores, and what the arms show, by evaluation.

The draw. Caregivers alike in a few registry facts form a stratum; what is unknown is a level of its own. Within a
stratum caregivers are numbered in the order of enrolment, after those drawn before, and every BLOCK_SIZE of them form
a block. A hash of (experiment, stratum, block) shuffles the block's slots; with r the shuffled rank of a caregiver's
slot, 0 <= r < B = BLOCK_SIZE, and v in (0, 1) from the same hash, her draw is

    u = (r + v) / B,   and she is in the treatment arm when u < rollout share.

This is the permuted-block design of Zelen (1974) with the blocks' order taken from a hash. It follows that

- a full block has exactly B * share treated for every share that is a multiple of 1/B, so that arms are balanced
  within every stratum up to one block;
- raising the share only moves caregivers from control to treatment;
- a draw is stored once and never repeated: who enrols later fills the open block of her stratum;
- draws are the same whether caregivers come at once or one day after the other, as long as they come in the order of
  enrolment.
"""

import hashlib
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bandicoot_core.contracts import CAREGIVERS, CONTROL_ARM, TREATMENT_ARM
from bandicoot_core.errors import InvalidSettingError

BLOCK_SIZE = 20
"""Caregivers of a block (B): shares of 10, 25, 50 and 100 % are whole numbers of them. Part of the draw: fixed."""

REGISTRY_FACTS = ("caregiver_id", "enrolled_at", "district", "age", "parity", "phone_reliable")
"""Columns of the registry that a draw is made from."""

_UNKNOWN = "unknown"
_AGE_BANDS = ((21, "under 21"), (30, "21 to 29"), (None, "30 or older"))
_PARITY_BANDS = ((2, "0 or 1"), (4, "2 or 3"), (None, "4 or more"))
_WORD_BYTES = 4


def draw_caregivers(registry: pa.Table, *, experiment: str, n_drawn: Mapping[str, int]) -> pa.Table:
    """The stratum, block and draw of caregivers who are new to an experiment, one row for each row of `registry`.

    registry: REGISTRY_FACTS as the source has them, one row per caregiver, in any order; everything but caregiver_id
    may be null. n_drawn: how many caregivers of each stratum have been drawn before; strata that are absent have none.
    Returned columns: stratum (string), block (int32, from 0), draw (float64, in (0, 1)).

    Within a stratum rows are numbered by enrolled_at (unknown last), then by the bytes of caregiver_id.
    """
    stratum = strata(registry).dictionary_encode()
    names: list[str] = stratum.dictionary.to_pylist()
    code = stratum.indices.to_numpy()
    order = pc.sort_indices(registry, sort_keys=[("enrolled_at", "ascending"), ("caregiver_id", "ascending")])
    before = np.array([n_drawn.get(name, 0) for name in names], dtype=np.int64)
    position = before[code] + _position_within(code, order.to_numpy())
    block, slot = position // BLOCK_SIZE, position % BLOCK_SIZE
    n_blocks = int(block.max(initial=0)) + 1
    pairs, row_of_pair = np.unique(code * n_blocks + block, return_inverse=True)
    draws = _block_draws(experiment, [(names[pair // n_blocks], pair % n_blocks) for pair in pairs.tolist()])
    return pa.table(
        {
            "stratum": stratum.cast(pa.string()),
            "block": pa.array(block, pa.int32()),
            "draw": pa.array(draws[row_of_pair, slot], pa.float64()),
        }
    )


def strata(registry: pa.Table) -> pa.Array:
    """The stratum of each row as text: district, age band, parity band and whether the phone is reliable.

    Facts are taken as the source has them: white space around a district goes, and an age or a parity out of the
    registry's bounds counts as unknown. Which districts are configured has no say, so that a setting moves nobody.
    """
    district = pc.utf8_trim_whitespace(_whole(registry["district"]).cast(pa.string()))
    district = pc.fill_null(pc.if_else(pc.equal(district, ""), None, district), _UNKNOWN)
    reliable = _whole(registry["phone_reliable"]).cast(pa.bool_())
    phone = pc.fill_null(pc.if_else(reliable, "reliable", "unreliable"), _UNKNOWN)
    return pc.binary_join_element_wise(
        district,
        pc.binary_join_element_wise("age", _band(registry, "age", _AGE_BANDS), " "),
        pc.binary_join_element_wise("parity", _band(registry, "parity", _PARITY_BANDS), " "),
        pc.binary_join_element_wise("phone", phone, " "),
        " | ",
    )


def is_control(draws: npt.NDArray[np.float64], *, rollout_share: float) -> npt.NDArray[np.bool_]:
    """Whether each draw is in the control arm under a rollout share: bool ndarray of the shape of `draws`.

    InvalidSettingError unless the share lies in (0, 1].
    """
    if not 0 < rollout_share <= 1:
        raise InvalidSettingError(f"rollout_share is {rollout_share}; it must lie above 0 and not above 1")
    return np.asarray(draws >= rollout_share)


def arms(draws: npt.NDArray[np.float64], *, rollout_share: float) -> npt.NDArray[np.str_]:
    """The arm of each draw, 'treatment' or 'control': str ndarray of the shape of `draws`; see is_control."""
    return np.where(is_control(draws, rollout_share=rollout_share), CONTROL_ARM, TREATMENT_ARM)


def _band(registry: pa.Table, name: str, bands: tuple[tuple[int | None, str], ...]) -> pa.Array:
    """The band of an integer fact; each band is given by the value it ends before, None for the last."""
    column = CAREGIVERS.column(name)
    value = _whole(registry[name]).cast(pa.int64())
    is_known = pc.fill_null(
        pc.and_(pc.greater_equal(value, column.minimum), pc.less_equal(value, column.maximum)), False
    )
    band: pa.Array = pa.repeat(bands[-1][1], len(value))
    for end, label in reversed(bands[:-1]):
        band = pc.if_else(pc.fill_null(pc.less(value, end), False), label, band)
    return pc.if_else(is_known, band, _UNKNOWN)


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _position_within(group: npt.NDArray[np.integer], order: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    """How many rows of the same group come before each row in `order` (row numbers): int64, shape of `group`."""
    by_group = order[np.argsort(group[order], kind="stable")]
    ordered = group[by_group]
    position = np.empty(len(group), dtype=np.int64)
    position[by_group] = np.arange(len(group)) - np.searchsorted(ordered, ordered)
    return position


def _block_draws(experiment: str, blocks: list[tuple[str, int]]) -> npt.NDArray[np.float64]:
    """The draws of all slots of some blocks: ndarray of shape (n_blocks, BLOCK_SIZE).

    SHAKE-256 of the block's name gives 2 B words of 32 bits: the first B order the slots, the others are the v.
    """
    n_bytes = 2 * BLOCK_SIZE * _WORD_BYTES
    digests = b"".join(
        hashlib.shake_256(f"{experiment}\0{stratum}\0{block}".encode()).digest(n_bytes) for stratum, block in blocks
    )
    words = np.frombuffer(digests, dtype=">u4").reshape(len(blocks), 2, BLOCK_SIZE)
    rank = np.argsort(np.argsort(words[:, 0], axis=1, kind="stable"), axis=1)
    return np.asarray((rank + (words[:, 1] + 0.5) / 2.0**32) / BLOCK_SIZE)
