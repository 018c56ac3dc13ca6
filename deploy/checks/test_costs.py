"""deploy/cost.py: each profile stays under its ceiling, and docs/costs.md says what is computed."""

from pathlib import Path

import pytest

from deploy import cost


@pytest.mark.parametrize("profile", cost.PROFILES)
@pytest.mark.parametrize("caregivers", cost.SCALES)
def test_each_profile_stays_under_its_ceiling(profile: str, caregivers: int) -> None:
    variables = cost.read_variables(cost.TERRAFORM / f"{profile}.tfvars")
    assert cost.total(cost.parts(variables, caregivers)) < cost.CEILING_USD


@pytest.mark.parametrize("profile", cost.PROFILES)
@pytest.mark.parametrize("caregivers", cost.SCALES)
def test_an_ordinary_month_is_under_the_budget_that_warns_and_an_extraordinary_one_is_not(
    profile: str, caregivers: int
) -> None:
    variables = cost.read_variables(cost.TERRAFORM / f"{profile}.tfvars")
    bill = cost.total(cost.parts(variables, caregivers))
    assert 0.8 < bill / cost.budget(variables, caregivers) < 0.9
    assert "monthly_budget_usd" not in variables, "a number in the file would be the same for each size"


def test_lean_is_about_forty_dollars_for_200_000_caregivers() -> None:
    variables = cost.read_variables(cost.TERRAFORM / "lean.tfvars")
    assert 30 < cost.total(cost.parts(variables, 200_000)) < 45


def test_the_page_of_costs_says_what_is_computed() -> None:
    assert cost.PAGE.read_text() == cost.page(), "run: python deploy/cost.py --write"


def test_a_bill_worked_out_by_hand_comes_to_the_same() -> None:
    # Runs of lean: 180 min of 2 vCPU and 4 GiB, 120 min of 4 vCPU and 8 GiB.
    by_hand = 180 * 60 * (2 * 0.000018 + 4 * 0.000002) + 120 * 60 * (4 * 0.000018 + 8 * 0.000002)
    variables = cost.read_variables(cost.TERRAFORM / "lean.tfvars")
    bill = {part.name: part.usd for part in cost.parts(variables, 200_000)}
    assert bill["Runs"] == pytest.approx(by_hand)
    assert bill["Control plane"] == pytest.approx(730 * 0.0201 + 20 * 0.12)


def test_the_page_of_terraform_says_what_safe_costs_and_what_less_of_it_does() -> None:
    page = " ".join((cost.TERRAFORM / "README.md").read_text().split())
    safe = cost.read_variables(cost.TERRAFORM / "safe.tfvars")
    redis_on_vm = {**safe, "cache_home": "vm"}

    def dollars(variables: dict[str, object], caregivers: int = 200_000) -> str:
        return f"{cost.total(cost.parts(variables, caregivers)):.0f} $"

    assert f"some {dollars(safe)} a month and not 120" in page
    assert f"Redis beside the daemon, about {dollars(redis_on_vm)}." in page
    assert f'`code_location_home = "vm"`: about {dollars({**redis_on_vm, "code_location_home": "vm"})}.' in page
    assert f"At a million caregivers *safe* is some {dollars(safe, 1_000_000)}" in page
    bill = {part.name: part.usd for part in cost.parts(safe, 200_000)}
    assert f"Memorystore for {bill['Redis']:.0f} $" in page
    assert f"instance for {bill['Code location']:.0f} $, beside Cloud SQL for {bill['PostgreSQL']:.0f} $" in page


def test_a_line_that_is_no_plain_value_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.tfvars"
    file.write_text('caregivers = 200000\nhas_nat = tobool("true")\n')
    with pytest.raises(ValueError, match="line 2: expected `name = value`"):
        cost.read_variables(file)


def test_a_second_zone_doubles_what_the_database_costs() -> None:
    safe = cost.read_variables(cost.TERRAFORM / "safe.tfvars")
    one = {part.name: part.usd for part in cost.parts(safe, 200_000)}["PostgreSQL"]
    two = {part.name: part.usd for part in cost.parts({**safe, "database_is_regional": True}, 200_000)}["PostgreSQL"]
    assert two - one == pytest.approx(0.042 * 730 + 20 * 0.204)
