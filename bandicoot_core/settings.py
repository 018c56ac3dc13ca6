"""Every setting of Bandicoot, once: its name, type, default, bounds and what it does.

`Settings` is where things are and how much may be used, `LogOptions` how processes log, `ServiceOptions` what the
service on request allows; `ListOptions` and
`ModelOptions` are what an analyst may choose for a run and see in the Launchpad; `EvaluationOptions` is how much work
the reports may be. All are read from environment variables (`BANDICOOT_<NAME>`), and the table in the README is tested
against this module. Nothing here opens a connection or asks the time.
"""

from datetime import date, timedelta
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from bandicoot_core.errors import InvalidSettingError

_ENVIRONMENT = SettingsConfigDict(env_prefix="BANDICOOT_", extra="ignore", frozen=True)


class Settings(BaseSettings):
    """Where things are kept, and what a process may use."""

    model_config = _ENVIRONMENT

    home: Path = Field(Path(".bandicoot"), description="Folder of the embedded server, the lake and Dagster's files")
    database_url: SecretStr | None = Field(
        None, description="PostgreSQL that holds schema `bandicoot`; empty means the embedded server"
    )
    source_url: SecretStr | None = Field(
        None, description="PostgreSQL that holds the programme; empty means the same server as `database_url`"
    )
    dagster_storage_url: SecretStr | None = Field(
        None,
        description=(
            "PostgreSQL for Dagster's storage, as `postgresql+psycopg2://...`; empty means schema `dagster` of "
            "`database_url`"
        ),
    )
    dagster_history_days: int = Field(
        90, ge=7, le=3650, description="Days that the logs of runs and the ticks of Dagster's daemon are kept"
    )
    log_bucket: str | None = Field(
        None,
        pattern=r"^[a-z0-9][a-z0-9._-]+[a-z0-9]$",
        description="Cloud Storage bucket for what the steps of runs print; empty means files under `DAGSTER_HOME`",
    )
    source_schema: str = Field(
        "suvita_production", pattern=r"^[a-z_][a-z0-9_]*$", description="Schema of the programme's tables"
    )
    # A look-up takes milliseconds, at ten million caregivers a second: a minute means that something is wrong.
    statement_timeout_seconds: int = Field(
        60, ge=1, le=86_400, description="Longest time a statement on the published schema may take"
    )
    # 200,000 caregivers' states are published in some three seconds; an hour is room for fifty million on a slow disk.
    bulk_timeout_seconds: int = Field(
        3600,
        ge=1,
        le=86_400,
        description="The same for statements that read or write whole tables, and for migrations",
    )
    # What holds a lock for longer than this is a forgotten session, or another run that is about to do the same work.
    lock_timeout_seconds: int = Field(
        60, ge=1, le=86_400, description="Longest wait for what another session has locked in the published schema"
    )
    pool_size: int = Field(
        4, ge=1, le=100, description="Connections to the published schema that a process keeps open at most"
    )
    lake_root: str | None = Field(
        None,
        description=(
            "Root of the lake: a folder, `gs://bucket/folder`, `s3://bucket/folder` or `az://container/folder`; empty "
            "means `<home>/lake`"
        ),
    )
    lake_timeout_seconds: float = Field(
        120, gt=0, le=3600, description="Seconds a request to the lake's object store may take"
    )
    keep_days: int | None = Field(
        None,
        ge=1,
        description=(
            "Days of lists and daily partitions that `bandicoot lake expire` keeps, longer where something needs them; "
            "empty means for ever"
        ),
    )
    keep_weeks: int | None = Field(
        None,
        ge=1,
        description=(
            "Weeks of weekly partitions and models that `bandicoot lake expire` keeps, longer where something needs "
            "them; empty means for ever"
        ),
    )
    memory_limit: str = Field(
        "4GB",
        pattern=r"^\d+(\.\d+)?\s?(MB|GB|TB)$",
        description="Memory the engine may use before it spills to disk",
    )
    threads: int | None = Field(None, ge=1, le=256, description="Threads of the engine; empty means all cores")
    max_invalid_share: float = Field(
        0.01, ge=0, le=1, description="Largest share of a partition's source rows that may be set aside"
    )
    reread_days: int = Field(
        3, ge=0, le=60, description="Days before a closed day that are read again, for rows that came late"
    )
    max_source_lag_minutes: int = Field(
        0, ge=0, le=1440, description="Minutes at the end of a day that a source that is a replica may still lack"
    )
    redis_url: SecretStr | None = Field(
        None, description="Redis that answers for PostgreSQL (redis://, rediss://, unix://); empty means none"
    )
    redis_timeout_seconds: float = Field(
        0.25, gt=0, le=60, description="Seconds a reader waits for Redis before PostgreSQL is read instead"
    )
    redis_pause_seconds: float = Field(
        30, ge=0, le=3600, description="Seconds for which readers leave a Redis alone that has failed"
    )
    redis_check_seconds: float = Field(
        60,
        ge=0,
        le=3600,
        description="Seconds after which a reader asks PostgreSQL again which list is the newest; 0 asks every time",
    )
    redis_fill_seconds: float = Field(
        60, gt=0, le=3600, description="Longest time for filling Redis; what is missing then is read from PostgreSQL"
    )
    redis_has_states: bool = Field(True, description="Whether every caregiver's state is put into Redis, or no state")
    redis_index_days: float = Field(7, ge=0.01, le=365, description="Days for which Redis keeps Whittle indices")
    redis_state_days: float = Field(1, ge=0.01, le=365, description="Days for which Redis keeps states")
    redis_recommendation_hours: float = Field(
        1, ge=0.01, le=24, description="Hours for which Redis keeps recommendations"
    )
    events_subscription: str | None = Field(
        None,
        pattern=r"^projects/[^/\s]+/subscriptions/[^/\s]+$",
        description=(
            "Pub/Sub subscription that caregiver events arrive in, as `projects/P/subscriptions/S`; empty means none"
        ),
    )
    events_folder: str | None = Field(
        None,
        min_length=1,
        description=(
            "Folder that files of caregiver events are dropped in, on disk or in an object store like the lake's; "
            "empty means none"
        ),
    )
    events_timeout_seconds: float = Field(10, gt=0, le=60, description="Seconds that Pub/Sub may take for an answer")
    alarm_webhook_url: SecretStr | None = Field(
        None, description="Slack-compatible webhook that alarms are posted to (https://...); empty means none"
    )
    alarm_smtp_url: SecretStr | None = Field(
        None,
        description=(
            "Mail server that alarms are sent through, as `smtp://user:password@host:port` (STARTTLS where it is "
            "offered) or `smtps://...`; empty means none"
        ),
    )
    alarm_email_from: str | None = Field(None, description="Sender of the alarms' mails; needed with the mail server")
    alarm_email_to: tuple[str, ...] = Field(
        (), description="Receivers of the alarms' mails (a JSON list); needed with the mail server"
    )
    alarm_timeout_seconds: float = Field(
        10, gt=0, le=300, description="Seconds that the webhook or the mail server may take for an answer"
    )
    districts: tuple[str, ...] = Field(
        (), description="Districts of the programme (a JSON list); empty means any named district is taken"
    )
    repository_url: str | None = Field(
        None,
        pattern=r"^https://\S+$",
        description="Address of this project on GitHub or GitLab, for links from the UI to the code; empty means none",
    )
    repository_branch: str = Field("main", min_length=1, description="Branch, tag or commit those links lead to")
    published_table_url: str | None = Field(
        None,
        pattern=r"^https?://\S+$",
        description=(
            "Page of the programme's own database browser that shows `bandicoot.call_list`, linked from the UI; "
            "`{call_date}` in it becomes the day; empty means none"
        ),
    )
    prices_file: Path | None = Field(
        None, description="TOML file of prices and of the monthly limit; empty means the list prices that come along"
    )
    billing_table: str | None = Field(
        None,
        pattern=r"^[a-z][a-z0-9-]*[a-z0-9]\.[A-Za-z0-9_]+\.[A-Za-z0-9_-]+$",
        description=(
            "BigQuery table of the billing account's standard usage cost export, as `project.dataset.table`; empty "
            "means that costs are estimated"
        ),
    )
    billing_project: str | None = Field(
        None,
        pattern=r"^[a-z][a-z0-9-]*[a-z0-9]$",
        description=(
            "Google Cloud project whose costs on the bill count, and which asks for them; empty means all projects on "
            "the bill, asked for by the process's own"
        ),
    )
    billing_timeout_seconds: float = Field(
        60, gt=0, le=3600, description="Seconds that BigQuery may take to answer for the bill"
    )
    experiment: str = Field(
        "demo", min_length=1, description="Name of the running experiment; another name draws everybody anew"
    )
    control_share: float = Field(
        0.1,
        ge=0,
        le=0.9,
        description=(
            "Share of caregivers in the control arm; the rollout is the rest (0.9 rolls out to 10 %, 0 to all), and "
            "lowering it only moves caregivers from control to treatment"
        ),
    )
    lookback_days: int = Field(
        84, ge=7, le=366, description="Days looked back for the last open and the last call of a caregiver"
    )
    warm_up_weeks: int = Field(6, ge=0, le=52, description="Weeks after enrolment before a caregiver may be called")
    writer_wait_seconds: float = Field(
        120, ge=0, le=86_400, description="Seconds a run waits for another one that writes the same partition"
    )
    demo_caregivers: int = Field(20_000, ge=1, description="Caregivers of the demo programme on a first run")
    demo_seed: int = Field(7, ge=0, description="Seed of the demo programme")

    @field_validator("dagster_storage_url")
    @classmethod
    def _driver_of_dagster(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value().startswith("postgresql+psycopg2://"):
            raise ValueError("Dagster's storage speaks psycopg2; write the URL as postgresql+psycopg2://...")
        return value

    @model_validator(mode="after")
    def _mails_have_sender_and_receiver(self) -> "Settings":
        if self.alarm_smtp_url is not None and not (self.alarm_email_from and self.alarm_email_to):
            raise ValueError(
                "BANDICOOT_ALARM_SMTP_URL is set without a sender and receivers; set BANDICOOT_ALARM_EMAIL_FROM and "
                "BANDICOOT_ALARM_EMAIL_TO too"
            )
        return self

    @property
    def lake_path(self) -> str:
        """Root of the lake as a path or URL."""
        return self.lake_root or str(self.home.absolute() / "lake")

    def published_table_page(self, call_date: date) -> str | None:
        """The page that shows the published list of a day in the programme's database browser; None without one."""
        if self.published_table_url is None:
            return None
        return self.published_table_url.replace("{call_date}", call_date.isoformat())

    @property
    def rollout_share(self) -> float:
        """Share of caregivers in the treatment arm: 1 - control_share, without the noise of the subtraction."""
        return round(1 - self.control_share, 12)

    @property
    def warm_up(self) -> timedelta:
        """Length of the warm-up."""
        return timedelta(weeks=self.warm_up_weeks)


class LogOptions(BaseSettings):
    """How every process logs; read apart from `Settings`, so that an invalid setting is logged in the right format."""

    model_config = _ENVIRONMENT

    log_format: Literal["text", "json"] = Field(
        "text",
        description=(
            "How every process writes its log: `text`, as Dagster does, for a person; `json`, one object per line, for "
            "what collects logs"
        ),
    )


class ServiceOptions(BaseSettings):
    """What the service on request may use, and what it lets its clients do."""

    model_config = _ENVIRONMENT

    api_reads_per_minute: int = Field(100, ge=1, le=1_000_000, description="Reads a key may ask for in a minute")
    api_bulk_per_minute: int = Field(
        1000, ge=1, le=1_000_000, description="Requests with many rows a key may send in a minute"
    )
    api_trainings_per_hour: int = Field(1, ge=1, le=1000, description="Runs a key may start in an hour")
    api_max_body_kb: int = Field(
        64, ge=1, le=65_536, description="Largest body of a request to the service, in KiB, where one row is expected"
    )
    api_max_bulk_mb: int = Field(8, ge=1, le=256, description="The same where many rows are expected, in MiB")
    api_timeout_seconds: float = Field(30, gt=0, le=3600, description="Longest time the service works on one request")
    api_check_seconds: float = Field(
        0.2, ge=0, le=60, description="Seconds after which the service asks again whether its answers are still right"
    )
    api_database_seconds: float = Field(
        2, gt=0, le=60, description="Seconds the service waits for PostgreSQL before it answers from Redis"
    )
    api_keys_seconds: float = Field(
        10, ge=0, le=3600, description="Seconds after which a revoked key is refused everywhere at the latest"
    )
    api_live_queries: int = Field(
        2, ge=1, le=64, description="Rankings as of now that one process makes at once; others get the published list"
    )
    api_answers_mb: int = Field(32, ge=1, le=4096, description="Memory for answers that are kept, in MiB")
    api_memory_mb: int | None = Field(
        None, ge=64, description="Memory the service may use, in MiB; empty means what the container or machine has"
    )
    api_max_list_age_hours: float = Field(
        26, gt=0, le=168, description="Age at which the newest list makes the service unready, from 00:00 of its day"
    )
    api_origins: tuple[str, ...] = Field(
        (), description="Origins whose pages may read the service's answers (a JSON list of https://...)"
    )
    api_session_secret: SecretStr | None = Field(
        None,
        min_length=32,
        description=(
            "Secret that signs sessions of the call sheet, 32 characters or more and the same for all processes; empty "
            "means one of each process, with which its sessions end"
        ),
    )
    api_sign_ins_per_minute: int = Field(
        10, ge=1, le=100_000, description="Wrong keys that an address may send to the call sheet in a minute"
    )
    api_dagster_url: str | None = Field(
        None,
        pattern=r"^https?://\S+$",
        description="Address of Dagster's webserver, through which the service starts training; empty means it cannot",
    )


class ListOptions(BaseSettings):
    """What may be chosen for one day's call list."""

    model_config = _ENVIRONMENT

    budget: int = Field(100, ge=0, le=1_000_000, description="Calls on the list of a day; 0 makes an empty list")
    district_budgets: dict[str, int] = Field(
        default_factory=dict,
        description="Calls reserved for a district, by name; the rest of the budget goes to the other districts",
    )
    district_floors: dict[str, int] = Field(
        default_factory=dict,
        description="Calls a district gets at least, by name; taken from the calls that districts share",
    )
    only_districts: tuple[str, ...] = Field(
        (), description="Districts the list is limited to (a JSON list); empty means every district"
    )
    cool_down_days: int = Field(
        14, ge=0, le=365, description="Days after an attempted call in which a caregiver is not called again"
    )
    pending_days: int = Field(
        3, ge=0, le=30, description="Days a listed caregiver without an outcome stays off later lists"
    )
    exploration_share: float = Field(
        0.05,
        ge=0,
        le=1,
        description="Share of the budget drawn at random from the eligible, to learn what calls do",
    )
    index_level: Literal["caregiver", "cluster"] = Field(
        "caregiver",
        description="What ranks first: a caregiver's own index, or that of her cluster with her own breaking ties",
    )
    min_engagement: float = Field(
        0.05, ge=0, le=1, description="Smallest share of responsive caregivers with which a list is published"
    )
    max_engagement: float = Field(
        0.95, ge=0, le=1, description="Largest share of responsive caregivers with which a list is published"
    )

    @field_validator("district_budgets", "district_floors")
    @classmethod
    def _no_negative_calls(cls, value: dict[str, int], info: ValidationInfo) -> dict[str, int]:
        what = "budget" if info.field_name == "district_budgets" else "floor"
        for district, n_calls in value.items():
            if n_calls < 0:
                raise ValueError(f"the {what} of district {district!r} is {n_calls}; it must be 0 or more")
        return value

    @model_validator(mode="after")
    def _districts_within_budget(self) -> "ListOptions":
        reserved = sum(self.district_budgets.values())
        if reserved > self.budget:
            raise ValueError(
                f"the district budgets add up to {reserved}, more than the budget of {self.budget}; "
                "raise the budget or lower a district's"
            )
        return self


class ModelOptions(BaseSettings):
    """What may be chosen for one training run."""

    model_config = _ENVIRONMENT

    training_weeks: int = Field(26, ge=4, le=62, description="Weeks of history a model is trained on")
    n_clusters: int = Field(20, ge=1, le=1000, description="Clusters of passive behaviour (k)")
    min_passive_weeks: int = Field(
        4, ge=1, le=61, description="Passive transitions a caregiver needs to be assigned by her own history"
    )
    min_cluster_share: float = Field(
        0.001,
        ge=0,
        le=0.5,
        description="Clusters with a smaller share of caregivers are merged into their nearest",
    )
    # The default follows from evaluation.estimation. With some 450 weeks with calls per cluster and state, which 100
    # calls a day give in half a year, `joint` has a quarter of Laplace's error of the lift on simulated programmes, and
    # its list is worth 1.00 of what the true chances of the clusters reach (Laplace's: 0.71). Where calls do nothing
    # the listed seem worth 0.03 responsive weeks (0.11). With fewer calls it leads as well.
    estimator: Literal["joint", "common_lift", "beta_likelihood", "beta_moments", "laplace"] = Field(
        "joint",
        description=(
            "Estimator of what calls do: `joint` (all weeks of all caregivers at once; the smallest errors in "
            "simulation), or from pooled weeks with calls `common_lift`, `beta_likelihood`, `beta_moments`, `laplace`"
        ),
    )
    half_life_weeks: float | None = Field(
        None,
        gt=0,
        le=1000,
        description="Weeks after which a week weighs half as much in the chances of clusters; empty means all alike",
    )
    discount: float = Field(0.99, gt=0, lt=1, description="Worth of a responsive week a week later")
    interval: float = Field(0.9, gt=0, lt=1, description="Probability inside credible intervals")
    n_draws: int = Field(2000, ge=100, le=100_000, description="Posterior draws behind each index interval")
    max_index_shift: float = Field(
        0.5,
        ge=0,
        description="Largest mean change of a caregiver's index against the champion, in responsive weeks",
    )
    min_log_completeness: float = Field(
        0.8,
        ge=0,
        le=1,
        description=(
            "Smallest share of the usual messages per caregiver that each of the last weeks must have for a model to "
            "be promoted"
        ),
    )
    max_loss_increase: float = Field(
        0.01,
        ge=0,
        le=1,
        description="Largest increase of the log loss against the champion, as a share of the champion's",
    )
    model_seed: int = Field(7, ge=0, description="Seed of clustering, mapper and posterior draws")


class EvaluationOptions(BaseSettings):
    """How much work the reports may be."""

    model_config = _ENVIRONMENT

    simulated_caregivers: int = Field(
        4000, ge=50, le=100_000, description="Caregivers in the miniature of the programme that policies are tried on"
    )
    simulated_programmes: int = Field(
        4, ge=1, le=1000, description="Programmes of each kind that estimators are compared on"
    )
    simulated_cohorts: int = Field(
        10, ge=2, le=1000, description="Public cohorts that policies are tried on; of field-sized ones half as many"
    )


def load_settings(**overrides: Any) -> Settings:
    """Settings from the environment; InvalidSettingError names each variable at fault and its bounds."""
    try:
        return Settings(**overrides)
    except ValidationError as error:
        raise InvalidSettingError(describe_invalid(error)) from error


def load_log_options(**overrides: Any) -> LogOptions:
    """How to log, from the environment; InvalidSettingError names the variable and what it may be."""
    try:
        return LogOptions(**overrides)
    except ValidationError as error:
        raise InvalidSettingError(describe_invalid(error)) from error


def load_list_options(**overrides: Any) -> ListOptions:
    """List options from the environment and the overrides; InvalidSettingError names what is out of bounds."""
    try:
        return ListOptions(**overrides)
    except ValidationError as error:
        raise InvalidSettingError(describe_invalid(error)) from error


def load_model_options(**overrides: Any) -> ModelOptions:
    """Model options from the environment and the overrides; InvalidSettingError names what is out of bounds."""
    try:
        return ModelOptions(**overrides)
    except ValidationError as error:
        raise InvalidSettingError(describe_invalid(error)) from error


def load_service_options(**overrides: Any) -> ServiceOptions:
    """Service options from the environment and the overrides; InvalidSettingError names what is out of bounds."""
    try:
        return ServiceOptions(**overrides)
    except ValidationError as error:
        raise InvalidSettingError(describe_invalid(error)) from error


def load_evaluation_options(**overrides: Any) -> EvaluationOptions:
    """Evaluation options from the environment and the overrides; InvalidSettingError names what is out of bounds."""
    try:
        return EvaluationOptions(**overrides)
    except ValidationError as error:
        raise InvalidSettingError(describe_invalid(error)) from error


def describe_invalid(error: ValidationError) -> str:
    """One line for each invalid setting: its name and variable, the value found, and what was expected."""
    lines = []
    for problem in error.errors(include_url=False, include_context=False):
        name = ".".join(str(part) for part in problem["loc"])
        if not name:
            lines.append(str(problem["msg"]))
            continue
        found = "" if _is_secret(name) else f" (found {problem['input']!r})"
        lines.append(f"{name}{found}: {problem['msg']}; set BANDICOOT_{name.split('.')[0].upper()} or the option")
    return "invalid setting: " + "; ".join(lines)


def _is_secret(name: str) -> bool:
    return name.endswith(("_url", "_secret"))


def settings_table() -> str:
    """Every setting as a Markdown table: variable, default, bounds and what it does."""
    lines = ["| variable | default | what it does |", "| --- | --- | --- |"]
    for model in (Settings, LogOptions, ServiceOptions, ListOptions, ModelOptions, EvaluationOptions):
        for name, field in model.model_fields.items():
            default = field.get_default(call_default_factory=True)
            shown = "" if default in (None, (), {}) else f"`{default}`"
            bounds = [
                f"{word} {getattr(rule, attribute):g}"
                for rule in field.metadata
                for attribute, word in (("ge", "at least"), ("gt", "above"), ("le", "at most"), ("lt", "below"))
                if hasattr(rule, attribute)
            ]
            text = (field.description or "") + (f" ({', '.join(bounds)})" if bounds else "")
            lines.append(f"| `BANDICOOT_{name.upper()}` | {shown} | {text} |")
    return "\n".join(lines)
