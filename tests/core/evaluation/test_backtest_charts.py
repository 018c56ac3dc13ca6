import struct

import pytest
from ibis.backends.duckdb import Backend

from bandicoot_core.contracts import CALIBRATION, MODEL_BACKTEST
from bandicoot_core.evaluation.backtest import Backtest, backtest
from bandicoot_core.evaluation.backtest_charts import calibration_chart, loss_in_band, losses_by_origin
from bandicoot_core.evaluation.drift import loss_band, one_step_losses
from bandicoot_core.settings import ModelOptions
from tests.core.evaluation.histories import draw_history, weeks_of
from tests.core.evaluation.models import in_engine


@pytest.fixture(scope="module")
def made(shared_engine: Backend) -> Backtest:
    rows = in_engine(shared_engine, draw_history(400, 10, seed=2))
    return backtest(rows, ModelOptions(n_clusters=3, min_cluster_share=0.01), weeks=weeks_of(10), n_origins=4)


def pictures(made: Backtest) -> list[bytes]:
    found = one_step_losses(made.scores)
    return [
        calibration_chart(made.calibration),
        losses_by_origin(made.scores, horizon=2),
        loss_in_band(found, loss_band(found)),
    ]


def test_pictures_have_the_size_the_ui_shows_and_the_same_bytes_each_time(made: Backtest) -> None:
    first = pictures(made)
    assert [struct.unpack(">II", png[16:24]) for png in first] == [(612, 306), (612, 351), (612, 306)]
    assert pictures(made) == first
    assert len(set(first)) == 3


def test_nothing_to_show_is_an_empty_picture_not_an_error() -> None:
    found = one_step_losses(MODEL_BACKTEST.empty())
    for png in (
        calibration_chart(CALIBRATION.empty()),
        losses_by_origin(MODEL_BACKTEST.empty()),
        loss_in_band(found, None),
    ):
        assert png.startswith(b"\x89PNG")
