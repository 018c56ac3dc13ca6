"""The cost table and the guide say what is planned."""

import re
from collections.abc import Callable

import pytest
from planned import FOLDER, Resources, of_kind, profiles

from deploy import cost


@profiles
@pytest.mark.parametrize("caregivers", cost.SCALES)
def test_the_cost_table_prices_what_is_planned(plans: Callable[..., Resources], profile: str, caregivers: int) -> None:
    planned = plans(profile, caregivers)
    variables = cost.read_variables(FOLDER / f"{profile}.tfvars")
    bill = {part.name: part for part in cost.parts(variables, caregivers)}
    size = cost.read_json("sizes.json")["sizes"][str(caregivers)]
    (machine,) = of_kind(planned, "compute_instance").values()
    assert bill["Control plane"].what.startswith(machine["machine_type"] + ",")
    assert machine["boot_disk"][0]["initialize_params"][0]["size"] == cost.CONTROL_DISK_GIB
    services = {each["name"] for each in of_kind(planned, "cloud_run_v2_service").values()}
    assert ("bandicoot-code" in services) == ("Code location" in bill)
    jobs = {each["name"]: each["template"][0]["template"][0] for each in of_kind(planned, "cloud_run_v2_job").values()}
    for kind in ("small", "large"):
        limits = jobs[f"bandicoot-run-{kind}"]["containers"][0]["resources"][0]["limits"]
        run = size[f"{kind}_run"]
        assert limits == {"cpu": str(run["cpu"]), "memory": f"{run['memory_gib']}Gi"}
    for instance in of_kind(planned, "sql_database_instance").values():
        assert instance["settings"][0]["tier"] == size["database_tier"]
        assert instance["settings"][0]["disk_size"] == size["database_gb"]
    assert bool(of_kind(planned, "sql_database_instance")) == (bill["PostgreSQL"].usd > 0)
    assert bool(of_kind(planned, "redis_instance")) == ("Redis" in bill)
    assert bool(of_kind(planned, "compute_router_nat")) == ("Way to the internet" in bill)
    conditions = sum(len(each["conditions"]) for each in of_kind(planned, "monitoring_alert_policy").values())
    secrets = len(of_kind(planned, "secret_manager_secret"))
    assert bill["Storage, images, logs, alerts"].what.endswith(f"{secrets} secrets, {conditions} alert conditions")


@pytest.mark.parametrize(("profile", "written"), [("safe", r"Plan: (\d+) to add"), ("lean", r"\(lean: (\d+)\)")])
def test_the_guide_says_how_many_things_are_made(plans: Callable[..., Resources], profile: str, written: str) -> None:
    whole = len(plans(profile, github_repository=None, event_senders=[]))
    first = len(plans(profile, github_repository=None, event_senders=[], image=None))
    page = (cost.DEPLOY.parent / "docs" / "deploy.md").read_text()
    # The job of migrations is made between the two.
    assert [int(each) for each in re.findall(written, page)] == [first, whole - first - 1]


def test_the_guide_puts_in_every_secret(plans: Callable[..., Resources]) -> None:
    page = (cost.DEPLOY.parent / "docs" / "deploy.md").read_text()
    secrets = {each["secret_id"] for each in of_kind(plans("safe"), "secret_manager_secret").values()}
    assert secrets == set(re.findall(r"^secret (bandicoot-[\w-]+) ", page, flags=re.MULTILINE))
