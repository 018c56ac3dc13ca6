import pytest

from bandicoot_core.errors import InvalidSettingError
from bandicoot_core.settings import load_list_options, load_model_options, load_settings


def test_defaults_need_no_environment() -> None:
    settings = load_settings()
    assert settings.database_url is None
    assert load_list_options().budget == 100
    assert load_model_options().n_clusters == 20


def test_a_setting_is_read_from_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BANDICOOT_BUDGET", "250")
    monkeypatch.setenv("BANDICOOT_DISTRICT_BUDGETS", '{"Patna": 20}')
    options = load_list_options()
    assert options.budget == 250
    assert options.district_budgets == {"Patna": 20}


def test_a_value_out_of_bounds_names_the_variable_and_the_value() -> None:
    with pytest.raises(InvalidSettingError, match=r"budget \(found -1\).*BANDICOOT_BUDGET"):
        load_list_options(budget=-1)
    with pytest.raises(InvalidSettingError, match=r"discount \(found 1\.0\)"):
        load_model_options(discount=1.0)


def test_district_budgets_above_the_budget_are_refused() -> None:
    with pytest.raises(InvalidSettingError, match="add up to 150, more than the budget of 100"):
        load_list_options(district_budgets={"Patna": 90, "Gaya": 60})


def test_a_negative_district_budget_is_refused_by_name() -> None:
    with pytest.raises(InvalidSettingError, match="district 'Gaya' is -1"):
        load_list_options(district_budgets={"Gaya": -1})


def test_a_secret_never_stands_in_an_error_or_a_print(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BANDICOOT_DATABASE_URL", "postgresql://user:hunter2@db/bandicoot")
    settings = load_settings()
    assert "hunter2" not in repr(settings)
    monkeypatch.setenv("BANDICOOT_THREADS", "many")
    with pytest.raises(InvalidSettingError) as refused:
        load_settings()
    assert "hunter2" not in str(refused.value)
    assert "BANDICOOT_THREADS" in str(refused.value)
