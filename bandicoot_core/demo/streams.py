"""Random streams of the demo: one per purpose, week and block, so that no draw depends on how much was drawn before.

Whoever lengthens the programme, or produces a single week of it, gets the same numbers. Which purposes there are is
fixed here; what is drawn for them is in the modules that draw.
"""

from enum import IntEnum

import numpy as np

BLOCK_SIZE = 65_536
"""Caregivers worked on at once. Part of the streams' addresses: another value gives another programme."""


class Stream(IntEnum):
    """What a stream is for. Values are part of the streams' addresses: never renumber."""

    REGISTRY = 1
    INITIAL_STATE = 2
    TRANSITION = 3
    CALLS = 4
    MESSAGES = 5
    DOSES = 6


def stream(seed: int, purpose: Stream, *address: int) -> np.random.Generator:
    """The generator of a purpose at an address (week, block, ...), always from its beginning."""
    return np.random.Generator(np.random.PCG64([seed, int(purpose), *address]))
