"""Filling the embedded source with the demo programme, and continuing it day by day.

Where the programme meets the installation: the experiment's arms, the place of its truth, and the clearing of what
was derived from an earlier programme.
"""

import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bandicoot_core.demo import DemoSummary, Programme, create_source_schema, extend, fill
from bandicoot_core.policy.experiment import is_control
from bandicoot_core.stores.installation import Installation
from bandicoot_core.stores.reset import clear_published

OnProgress = Callable[[str, int, int], None]


def fill_demo(
    installation: Installation, *, n_caregivers: int, seed: int, day: date, on_progress: OnProgress
) -> DemoSummary:
    """Replace the source by a programme whose last day is the one before `day`.

    What was derived from an earlier programme goes first (lake and published tables): its caregivers share ids with
    the new ones without being the same.
    """
    settings = installation.settings
    programme = Programme(
        n_caregivers=n_caregivers,
        seed=seed,
        as_of_date=day,
        control_share=settings.control_share,
        experiment=settings.experiment,
    )
    shutil.rmtree(installation.lake.root.path, ignore_errors=True)
    with installation.published() as connection:
        create_source_schema(connection)
        clear_published(connection)
        return fill(
            connection,
            programme,
            truth_dir=_truth_folder(installation),
            is_control=_control_of(programme),
            on_progress=on_progress,
        )


def extend_demo(installation: Installation, stored: Programme, day: date, *, on_progress: OnProgress) -> DemoSummary:
    """Continue the stored programme up to the day before `day`; what it already wrote stays."""
    programme = replace(stored, as_of_date=day)
    with installation.published() as connection:
        return extend(
            connection,
            programme,
            truth_dir=_truth_folder(installation),
            is_control=_control_of(programme),
            on_progress=on_progress,
        )


def _truth_folder(installation: Installation) -> Path:
    return installation.settings.home.absolute() / "demo_truth"


def _control_of(programme: Programme) -> Callable[[pa.StringArray], npt.NDArray[np.bool_]]:
    def control(caregiver_ids: pa.StringArray) -> npt.NDArray[np.bool_]:
        return is_control(caregiver_ids, experiment=programme.experiment, control_share=programme.control_share)

    return control
