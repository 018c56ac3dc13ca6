"""What Bandicoot costs a month on Google Cloud, from prices, sizes and the three variable files of deploy/terraform.

    python deploy/cost.py            # prints docs/costs.md
    python deploy/cost.py --write    # writes it

Every amount comes from prices.json, sizes.json and a variable file; what is assumed about use (minutes of runs, busy
hours of the service) is in sizes.json. Standard library alone.
"""

import argparse
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DEPLOY = Path(__file__).resolve().parent
TERRAFORM = DEPLOY / "terraform"
PAGE = DEPLOY.parent / "docs" / "costs.md"

PROFILES = ("development", "lean", "safe")
SCALES = (200_000, 500_000, 1_000_000)
CEILING_USD = 200.0
"""No profile may cost more at any of the scales."""

CODE_BUSY_SHARE = 0.15
"""Share of the time in which a sensor or schedule is at work in the code location."""
IMAGES_GIB = 5.0
NAT_GIB = 2.0
CONTROL_DISK_GIB = 20
SECONDS_PER_HOUR = 3600


@dataclass(frozen=True)
class Part:
    """One line of the bill."""

    name: str
    usd: float
    what: str


def read_variables(path: Path) -> dict[str, Any]:
    """The values of a variable file; ValueError names the first line that is neither a comment nor a plain value."""
    values: dict[str, Any] = {}
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        found = re.fullmatch(r"(\w+)\s*=\s*(true|false|\d+|\"[^\"]*\")\s*", line)
        if found is None:
            raise ValueError(f"{path.name}, line {number}: expected `name = value` with a plain value, found {line!r}")
        values[found[1]] = json.loads(found[2])
    return values


def read_json(name: str) -> dict[str, Any]:
    """A file of numbers beside the Terraform."""
    return json.loads((TERRAFORM / name).read_text())


def parts(variables: dict[str, Any], caregivers: int) -> list[Part]:
    """The bill of a month: what is made with these variables for that many caregivers, and how it is used."""
    price, sizes = read_json("prices.json"), read_json("sizes.json")
    size, use = sizes["sizes"][str(caregivers)], sizes["assumptions"][str(caregivers)]
    hours = price["hours_per_month"]
    month = hours * SECONDS_PER_HOUR
    is_code_on_vm = variables["code_location_home"] == "vm"
    machine = size["control_plane_machine"]["with_code_location" if is_code_on_vm else "alone"]

    beside = ["daemon", "webserver"]
    if is_code_on_vm:
        beside.append("code location")
    if variables["cache_home"] == "vm":
        beside.append("Redis")
    bill = [
        Part(
            "Control plane",
            price["machine_hour"][machine] * hours + CONTROL_DISK_GIB * price["disk_gib_month"],
            f"{machine}, {CONTROL_DISK_GIB} GiB disk: {', '.join(beside)}",
        )
    ]
    if not is_code_on_vm:
        busy, idle = CODE_BUSY_SHARE * month, (1 - CODE_BUSY_SHARE) * month
        bill.append(
            Part(
                "Code location",
                busy * (price["run_service_vcpu_second"] + price["run_service_gib_second"])
                + idle * (price["run_idle_vcpu_second"] + price["run_idle_gib_second"]),
                f"Cloud Run, one instance of 1 vCPU and 1 GiB, busy {CODE_BUSY_SHARE:.0%} of the time",
            )
        )
    runs = sum(
        use[f"{kind}_run_minutes"]
        * 60
        * (
            size[f"{kind}_run"]["cpu"] * price["run_job_vcpu_second"]
            + size[f"{kind}_run"]["memory_gib"] * price["run_job_gib_second"]
        )
        for kind in ("small", "large")
    )
    bill.append(
        Part(
            "Runs", runs, f"Cloud Run jobs: {use['small_run_minutes']} min small, {use['large_run_minutes']} min large"
        )
    )
    service_hour = SECONDS_PER_HOUR * (price["run_service_vcpu_second"] + 0.5 * price["run_service_gib_second"])
    bill.append(
        Part(
            "Service", use["api_busy_hours"] * service_hour, f"Cloud Run: {use['api_busy_hours']} h of a busy instance"
        )
    )
    if variables["own_database"]:
        tier, disk = size["database_tier"], size["database_gb"]
        nodes = 2 if variables["database_is_regional"] else 1
        bill.append(
            Part(
                "PostgreSQL",
                nodes * (price["database_hour"][tier] * hours + disk * price["database_disk_gib_month"])
                + disk * price["database_backup_gib_month"],
                f"Cloud SQL {tier}, {disk} GB SSD, as much again of backups and logs"
                + (", in two zones" if nodes == 2 else ""),
            )
        )
    else:
        bill.append(Part("PostgreSQL", 0.0, "shared with the programme; its owner pays"))
    if variables["cache_home"] == "memorystore":
        bill.append(Part("Redis", price["redis_gib_hour"] * hours, "Memorystore, 1 GB basic"))
    if variables["has_nat"]:
        bill.append(
            Part(
                "Way to the internet",
                (price["nat_hour"] * 4 + price["nat_address_hour"]) * hours + NAT_GIB * price["nat_gib"],
                f"Cloud NAT for up to 4 machines and instances, one reserved address, {NAT_GIB:g} GiB",
            )
        )
    n_secrets = 6 + (variables["cache_home"] != "none") + (variables["cache_home"] == "memorystore")
    n_secrets += variables["has_alarm_webhook"] + variables.get("has_alarm_mail", False)
    n_conditions = n_alerts(variables)
    bill.append(
        Part(
            "Storage, images, logs, alerts",
            use["lake_gib"] * price["bucket_gib_month"]
            + IMAGES_GIB * price["registry_gib_month"]
            + use["log_gib"] * price["log_gib"]
            + n_secrets * price["secret_version_month"]
            + n_conditions * price["alert_condition_month"],
            f"{use['lake_gib']} GiB lake, {IMAGES_GIB:g} GiB images, {use['log_gib']} GiB logs, {n_secrets} secrets, "
            f"{n_conditions} alert conditions",
        )
    )
    return bill


def n_alerts(variables: dict[str, Any]) -> int:
    """Conditions of alert policies: eleven always, and one each with a public service and with Memorystore."""
    return 11 + variables["api_is_public"] + (variables["cache_home"] == "memorystore")


def budget(variables: dict[str, Any], caregivers: int) -> int:
    """The monthly budget in US dollars that Terraform sets, with which Google warns: the sum of what is made."""
    may = read_json("sizes.json")["sizes"][str(caregivers)]["budget_usd"]
    return int(
        may["always"]
        + (may["code_location"] if variables["code_location_home"] == "cloud_run" else 0)
        + (may["database"] * (2 if variables["database_is_regional"] else 1) if variables["own_database"] else 0)
        + (may["memorystore"] if variables["cache_home"] == "memorystore" else 0)
        + (may["nat"] if variables["has_nat"] else 0)
    )


def total(bill: list[Part]) -> float:
    """The sum of a bill."""
    return sum(part.usd for part in bill)


def page() -> str:
    """The page of costs, as Markdown."""
    price = read_json("prices.json")
    files = {name: read_variables(TERRAFORM / f"{name}.tfvars") for name in PROFILES}
    lines = [
        "# What Bandicoot costs on Google Cloud",
        "",
        "Written by `python deploy/cost.py --write`; a test holds this page to what is computed, and every total under "
        f"{CEILING_USD:.0f} US dollars a month.",
        "",
        f"**Prices** are in `deploy/terraform/prices.json`, as of {price['known_on']}: {price['source']}",
        "",
        "**Use** is assumed in `deploy/terraform/sizes.json`: how long runs take, how many hours an instance of the "
        "service is busy, how large lake and logs are. These are estimates, not measurements of a programme; the "
        "machines are what Terraform makes. What was really spent, `cost_report` says every morning "
        "([operations.md](operations.md#what-it-costs)).",
        "",
        "## A month, in US dollars",
        "",
        "| | " + " | ".join(f"{scale:,} caregivers" for scale in SCALES) + " |",
        "| --- |" + " ---: |" * len(SCALES),
    ]
    for name, variables in files.items():
        amounts = [f"{total(parts(variables, scale)):.0f} of {budget(variables, scale)}" for scale in SCALES]
        lines.append(f"| {name} | " + " | ".join(amounts) + " |")
    lines += [
        "",
        "After *of* stands the budget that Terraform sets where there is a `billing_account`, from `budget_usd` in "
        "`sizes.json`: Google mails at 50, 80 and 100 % of it, and when it expects more. A month like the one computed "
        "stays under 90 %. `monthly_budget_usd` sets another.",
    ]
    for name, variables in files.items():
        lines += ["", f"## {name.capitalize()}", ""]
        lines += ["| | " + " | ".join(f"{scale:,}" for scale in SCALES) + " | for 200,000 |"]
        lines += ["| --- |" + " ---: |" * len(SCALES) + " --- |"]
        bills = [parts(variables, scale) for scale in SCALES]
        for row in zip(*bills, strict=True):
            lines.append(f"| {row[0].name} | " + " | ".join(f"{part.usd:.2f}" for part in row) + f" | {row[0].what} |")
        lines.append("| **all** | " + " | ".join(f"**{total(bill):.2f}**" for bill in bills) + " | |")
    lines += [
        "",
        "Development and lean share the PostgreSQL of the programme; with `own_database = true` instead, add the line "
        "*PostgreSQL* of safe. `database_is_regional = true` adds that of a second zone. A job with a GPU "
        "(`has_gpu_job`) costs nothing while it does not run. Not in the table: the programme's own servers, and what "
        "mobile networks ask for calls and SMS.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name} in place of printing it")
    if parser.parse_args().write:
        PAGE.write_text(page())
    else:
        sys.stdout.write(page())


if __name__ == "__main__":
    main()
