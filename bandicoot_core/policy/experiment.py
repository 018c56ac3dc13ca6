"""Arms of the running experiment, by hash: who is held back as control.

Only the assignment belongs here; storing it is done by stores, and what the arms show, by evaluation.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from bandicoot_core.contracts import CONTROL_ARM, TREATMENT_ARM
from bandicoot_core.errors import InvalidSettingError

_HASH_BYTES = 4
"""The first 8 hex digits of the hash, read as a number below 2**32."""


def is_control(caregiver_ids: Sequence[str] | pa.StringArray, *, experiment: str, control_share: float) -> np.ndarray:
    """Whether each caregiver is in the control arm: bool ndarray of shape (n_caregivers,).

    A caregiver is a control when the first 8 hex digits of md5(experiment + ':' + caregiver_id), divided by 2**32,
    lie below `control_share`. The arm thus depends on nothing but her own id and the experiment: it is the same in
    every run, whoever else enrols, and raising the share only moves caregivers from treatment to control. Another
    experiment name draws independently. Meant for new caregivers only; stored arms are never drawn again.

    InvalidSettingError when the share lies outside [0, 1]; ValueError when an id is missing.
    """
    if not 0 <= control_share <= 1:
        raise InvalidSettingError(f"control_share is {control_share}; it must lie between 0 and 1")
    ids = caregiver_ids.to_pylist() if isinstance(caregiver_ids, pa.Array | pa.ChunkedArray) else list(caregiver_ids)
    if None in ids:
        raise ValueError(f"caregiver_ids[{ids.index(None)}] is null; an arm can be drawn only for a named caregiver")
    digests = b"".join(_digest(f"{experiment}:{caregiver_id}") for caregiver_id in ids)
    draws = np.frombuffer(digests, dtype=">u4").astype(np.float64) / 2.0 ** (8 * _HASH_BYTES)
    return draws < control_share


def assign_arms(caregiver_ids: Sequence[str] | pa.StringArray, *, experiment: str, control_share: float) -> np.ndarray:
    """The arm of each caregiver, 'treatment' or 'control': str ndarray of shape (n_caregivers,); see is_control."""
    control = is_control(caregiver_ids, experiment=experiment, control_share=control_share)
    return np.where(control, CONTROL_ARM, TREATMENT_ARM)


def _digest(text: str) -> bytes:
    return hashlib.md5(text.encode(), usedforsecurity=False).digest()[:_HASH_BYTES]
