"""Reading Google's bill: the query of bandicoot_core.costs.bill, asked of BigQuery through Dagster's own resource."""

from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING

from bandicoot_core.costs.bill import BilledService, bill_query, bill_span
from bandicoot_core.errors import InvalidInputError, UnreachableError
from bandicoot_core.settings import Settings

if TYPE_CHECKING:
    from google.cloud import bigquery

_MOST_BYTES = 20 * 2**30
"""What a query may read, some ten US cents: a table that is not the export, or not partitioned, is refused."""


class Bill:
    """The billing account's export, as the settings name it."""

    def __init__(self, settings: Settings) -> None:
        self._table = settings.billing_table
        self._project = settings.billing_project
        self._timeout_seconds = settings.billing_timeout_seconds

    @property
    def is_configured(self) -> bool:
        """Whether there is a bill to read."""
        return self._table is not None

    def read(self, day: date) -> Sequence[BilledService]:
        """What each service has cost in the month of a day, up to the day's end.

        UnreachableError when BigQuery does not answer in time or fails; InvalidInputError when it refuses: no right, no
        such table, no credentials, or a table that is not the export.
        """
        if self._table is None:
            raise ValueError("no bill is configured; ask is_configured first")
        # Google's libraries take a second to import, and most runs have no bill to read.
        import requests  # noqa: PLC0415
        from dagster_gcp.bigquery.resources import BigQueryResource  # noqa: PLC0415
        from google.api_core import exceptions  # noqa: PLC0415
        from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError, TransportError  # noqa: PLC0415

        doing = f"reading the bill in {self._table}"
        try:
            with BigQueryResource(project=self._project).get_client() as client:
                return _ask(client, self._table, self._project, day, timeout_seconds=self._timeout_seconds)
        except (exceptions.ClientError, DefaultCredentialsError) as error:
            raise InvalidInputError(
                f"{doing}: BigQuery refuses ({_said(error)}); see that the table is the standard usage cost export, "
                "and that the process may read it (roles/bigquery.dataViewer) and ask (roles/bigquery.jobUser)"
            ) from error
        except (
            exceptions.GoogleAPIError,
            GoogleAuthError,
            TransportError,
            requests.RequestException,
            TimeoutError,
        ) as error:
            raise UnreachableError(f"{doing}: BigQuery does not answer ({_said(error)}); run again later") from error


def _ask(
    client: "bigquery.Client", table: str, project: str | None, day: date, *, timeout_seconds: float
) -> list[BilledService]:
    from google.cloud import bigquery  # noqa: PLC0415
    from google.cloud.bigquery.retry import DEFAULT_JOB_RETRY, DEFAULT_RETRY  # noqa: PLC0415

    start, until = bill_span(day)
    config = bigquery.QueryJobConfig(
        query_parameters=[
            bigquery.ScalarQueryParameter("month_start", "TIMESTAMP", start),
            bigquery.ScalarQueryParameter("until", "TIMESTAMP", until),
            bigquery.ScalarQueryParameter("project", "STRING", project),
        ],
        maximum_bytes_billed=_MOST_BYTES,
        labels={"asked_by": "bandicoot"},
    )
    rows = client.query_and_wait(
        bill_query(table),
        job_config=config,
        api_timeout=timeout_seconds,
        wait_timeout=timeout_seconds,
        retry=DEFAULT_RETRY.with_timeout(timeout_seconds),
        job_retry=DEFAULT_JOB_RETRY.with_timeout(timeout_seconds),  # by itself forty minutes
    )
    return [BilledService(row["service"], float(row["usd"]), row["billed_until"]) for row in rows]


def _said(error: Exception) -> str:
    """The first line of what a library says; the rest is where it looked, and the query."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
