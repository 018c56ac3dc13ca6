"""Run configuration as the Launchpad shows it: the options of bandicoot_core.settings, with defaults and bounds.

The fields, their bounds and descriptions come from the core models; nothing about an option is said here again. List
options are configured on the `call_list` asset; training options are a resource, so that one choice in the Launchpad
holds for every step of a model.
"""

from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field, create_model
from pydantic_settings import BaseSettings

from bandicoot_core.settings import ListOptions, ModelOptions, load_list_options, load_model_options

_BOUNDS = {"ge": "at least {}", "gt": "above {}", "le": "at most {}", "lt": "below {}"}


def launchpad_fields(options: BaseSettings) -> dict[str, Any]:
    """Field definitions with the environment's values as defaults and the bounds spelt out in the description."""
    fields: dict[str, Any] = {}
    for name, field in type(options).model_fields.items():
        value = getattr(options, name)
        annotation: Any = field.annotation
        if isinstance(value, tuple):
            annotation, value = list[str], list(value)
        bounds = [
            text.format(getattr(constraint, attribute))
            for constraint in field.metadata
            for attribute, text in _BOUNDS.items()
            if hasattr(constraint, attribute)
        ]
        description = (field.description or "") + (f" ({', '.join(bounds)})" if bounds else "")
        fields[name] = (annotation, Field(default=value, description=description))
    return fields


if TYPE_CHECKING:
    _ListFields = dg.Config
    _TrainingFields = dg.ConfigurableResource[Any]
else:
    _ListFields = create_model("_ListFields", __base__=dg.Config, **launchpad_fields(load_list_options()))
    _TrainingFields = create_model(
        "_TrainingFields", __base__=dg.ConfigurableResource, **launchpad_fields(load_model_options())
    )


class CallListConfig(_ListFields):
    """Choices for the list of one day."""

    as_of_date: str = Field(
        default="",
        description=(
            "Day (YYYY-MM-DD) at whose end the states are taken; empty means the day before the list. "
            "An earlier day makes a list when last night's data is missing"
        ),
    )

    def options(self) -> ListOptions:
        """The options, checked; InvalidSettingError names what is out of bounds."""
        return load_list_options(**self.model_dump(exclude={"as_of_date"}))


class WhyListedConfig(dg.Config):
    """Whom the question is about."""

    caregiver_id: str = Field(
        min_length=1,
        description=(
            "Her id as the source spells it, for example CG-000123 (at least 1 character). It stays in the run's "
            "configuration until the run is deleted, as `bandicoot forget` does"
        ),
    )


class ModelComparisonConfig(dg.Config):
    """Which models are compared."""

    first_version: str = Field(default="", description="A model version; empty means the champion")
    second_version: str = Field(default="", description="A model version; empty means the newest other one")


class Training(_TrainingFields):
    """Choices for one training run, shared by every model asset."""

    def options(self) -> ModelOptions:
        """The options, checked; InvalidSettingError names what is out of bounds."""
        return load_model_options(**self.model_dump())
