"""What happens when Dagster cannot write to its own storage, in words for the person who has to act.

Dagster passes on what SQLAlchemy and psycopg2 raise, often wrapped in an error of its own. Errors inside a step are
the core's business.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from dagster_postgres.utils import DagsterPostgresException
from sqlalchemy.exc import SQLAlchemyError

from bandicoot_core.errors import BandicootError, UnreachableError


@contextmanager
def storage_errors(doing: str) -> Iterator[None]:
    """UnreachableError for an error of Dagster's storage inside the block, wherever in its chain it stands."""
    try:
        yield
    except BandicootError:
        raise
    except Exception as error:
        cause = _of_storage(error)
        if cause is None:
            raise
        raise storage_lost(doing, str(getattr(cause, "orig", None) or cause)) from error


def storage_lost(doing: str, said: str) -> UnreachableError:
    """The error to raise for one of the storage that said something."""
    return UnreachableError(
        f"{doing}: Dagster's storage went away ({' '.join(said.split())}); what the run had written and published by "
        "then stays in place and whole; run again when the server answers"
    )


def is_of_storage(class_name: str | None, message: str) -> bool:
    """Whether an error that Dagster has serialized is the storage's; nothing else here uses psycopg2."""
    return class_name == DagsterPostgresException.__name__ or message.startswith(("psycopg2.", "sqlalchemy.exc."))


def _of_storage(error: BaseException) -> BaseException | None:
    """The innermost error of the storage behind an exception, None when there is none."""
    seen: set[int] = set()
    found = None
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        if isinstance(link, SQLAlchemyError | DagsterPostgresException):
            found = link
        link = link.__cause__ or link.__context__
    return found
