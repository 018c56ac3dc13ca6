"""Prices and the monthly limit: read from a file, checked whole. What they are multiplied with belongs to spending."""

import tomllib
from importlib import resources
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, ValidationError

from bandicoot_core.errors import InvalidSettingError

_STRICT = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class JobSize(BaseModel):
    """What a run of a job is given."""

    model_config = _STRICT

    vcpus: PositiveFloat
    gib: PositiveFloat


class RunPrices(BaseModel):
    """Prices of a second of a run; `jobs` are those of another size than the rest."""

    model_config = _STRICT

    vcpu_second: NonNegativeFloat
    gib_second: NonNegativeFloat
    vcpus: PositiveFloat
    gib: PositiveFloat
    jobs: dict[str, JobSize] = Field(default_factory=dict)

    def per_second(self, job: str) -> float:
        """US dollars for a second of a run of a job."""
        size = self.jobs.get(job, JobSize(vcpus=self.vcpus, gib=self.gib))
        return size.vcpus * self.vcpu_second + size.gib * self.gib_second


class StoragePrices(BaseModel):
    """Prices of what is kept."""

    model_config = _STRICT

    lake_gib_month: NonNegativeFloat


class BilledComponent(BaseModel):
    """What the bill knows as services, and which estimated components it replaces."""

    model_config = _STRICT

    component: str = Field(min_length=1)
    services: tuple[str, ...]
    replaces: tuple[str, ...] = ()


class Prices(BaseModel):
    """All prices in US dollars, and what a month may cost."""

    model_config = _STRICT

    monthly_limit: PositiveFloat
    runs: RunPrices
    storage: StoragePrices
    monthly: dict[str, NonNegativeFloat] = Field(default_factory=dict)
    """Component -> price of a month of it, used or not."""
    billed: tuple[BilledComponent, ...] = ()
    """How a bill is read, where there is one."""


def load_prices(file: Path | None = None) -> Prices:
    """Prices from a TOML file, by default the one that comes with Bandicoot.

    InvalidSettingError names the file, the entry at fault, the value found and what was expected.
    """
    where = f"BANDICOOT_PRICES_FILE: {file}"
    try:
        text = file.read_text() if file else resources.files(__package__).joinpath("prices.toml").read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSettingError(
            f"{where} cannot be read ({error}); name a TOML file like costs/prices.toml"
        ) from error
    try:
        return Prices.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise InvalidSettingError(f"{where} is not TOML ({error}); mend it there") from error
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, problem['loc']))} (found {problem['input']!r}): {problem['msg']}"
            for problem in error.errors(include_url=False, include_context=False)
        )
        raise InvalidSettingError(f"{where}: {problems}; mend it there") from error
