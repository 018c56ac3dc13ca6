"""Filling the embedded source with the demo programme, and continuing it day by day.

Where the programme meets the installation: the experiment's arms, the place of its truth, and the clearing of what
was derived from an earlier programme.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bandicoot_core.calendar import start_of_day
from bandicoot_core.demo import DemoSummary, Programme, create_source_schema, extend, fill
from bandicoot_core.errors import InvalidSettingError
from bandicoot_core.policy.experiment import draw_caregivers, is_control
from bandicoot_core.stores.installation import Installation
from bandicoot_core.stores.published.experiments import record_rollout
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
    installation.lake.clear()
    with installation.published() as connection:
        create_source_schema(connection)
        clear_published(connection)
        # The programme has kept its arms apart since its first day, not since the day it was filled.
        record_rollout(
            connection,
            experiment=settings.experiment,
            rollout_share=settings.rollout_share,
            in_force_at=start_of_day(programme.origin_date),
        )
        return fill(
            connection,
            programme,
            truth_dir=_truth_folder(installation),
            is_control=_control_of(programme),
            on_progress=on_progress,
        )


def extend_demo(installation: Installation, stored: Programme, day: date, *, on_progress: OnProgress) -> DemoSummary:
    """Continue the stored programme up to the day before `day`; what it already wrote stays.

    InvalidSettingError when the settings put caregivers in control whom the programme calls: its policy knows the arms
    it began with, of which a raised rollout only takes some away.
    """
    settings = installation.settings
    if settings.experiment != stored.experiment or settings.control_share > stored.control_share:
        raise InvalidSettingError(
            f"the demo programme keeps the control arm of experiment {stored.experiment!r} with a control share of "
            f"{stored.control_share:g}; found experiment {settings.experiment!r} with {settings.control_share:g}: set "
            "BANDICOOT_EXPERIMENT and BANDICOOT_CONTROL_SHARE back, or fill the demo again with `bandicoot demo`"
        )
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


def _control_of(programme: Programme) -> Callable[[pa.Table], npt.NDArray[np.bool_]]:
    """Who is never called: the arms that the pipeline draws, since the demo's caregivers come in order of enrolment."""

    def control(registry: pa.Table) -> npt.NDArray[np.bool_]:
        drawn = draw_caregivers(registry, experiment=programme.experiment, n_drawn={})
        return is_control(drawn["draw"].to_numpy(), rollout_share=round(1 - programme.control_share, 12))

    return control
