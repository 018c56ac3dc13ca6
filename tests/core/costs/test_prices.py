"""Prices come from a file that is checked whole."""

from pathlib import Path

import pytest

from bandicoot_core.costs.prices import load_prices
from bandicoot_core.errors import InvalidSettingError

SMALL = """
monthly_limit = 100
[runs]
vcpu_second = 0.001
gib_second = 0.0001
vcpus = 2
gib = 5
[runs.jobs.weekly_training]
vcpus = 4
gib = 10
[storage]
lake_gib_month = 0.02
"""


def written(folder: Path, text: str) -> Path:
    file = folder / "prices.toml"
    file.write_text(text)
    return file


def test_the_prices_that_come_along_hold_the_limit_of_the_programme() -> None:
    prices = load_prices()

    assert prices.monthly_limit == 200
    assert sum(prices.monthly.values()) < prices.monthly_limit


def test_a_second_of_a_run_costs_its_processors_and_its_memory(tmp_path: Path) -> None:
    runs = load_prices(written(tmp_path, SMALL)).runs

    assert runs.per_second("nightly") == pytest.approx(2 * 0.001 + 5 * 0.0001)
    assert runs.per_second("weekly_training") == pytest.approx(4 * 0.001 + 10 * 0.0001)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (SMALL.replace("= 100", "= -1"), r"monthly_limit \(found -1\): Input should be greater than 0"),
        (SMALL.replace("= 100", "= nan"), "monthly_limit.*finite"),
        (SMALL.replace("lake_gib_month", "lake_gib"), "storage.lake_gib_month"),
        (SMALL.replace("lake_gib_month = 0.02", "lake_gib_month = 0.02\nother = 1"), "storage.other"),
        ("monthly_limit = ", "is not TOML"),
    ],
)
def test_a_wrong_entry_is_named_with_its_file(tmp_path: Path, text: str, said: str) -> None:
    file = written(tmp_path, text)

    with pytest.raises(InvalidSettingError, match=said) as caught:
        load_prices(file)

    assert f"BANDICOOT_PRICES_FILE: {file}" in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettingError, match="cannot be read"):
        load_prices(tmp_path / "absent.toml")
