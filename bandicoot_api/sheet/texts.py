"""Every word of the call sheet, in English; a translation would be another module with these names.

Only words belong here. Reasons come with the list, in the words of policy.reasons.
"""

from collections.abc import Mapping
from datetime import date, datetime
from typing import Final

from bandicoot_core.calendar import PROGRAMME_TIME_ZONE, day_of
from bandicoot_core.stores.published.call_sheet import Chosen

LANGUAGE: Final = "en"
TITLE: Final = "Call sheet"

KEY: Final = "Your key"
KEY_HINT: Final = "It begins with bdc_ and has 60 characters. Let the phone remember it: it is asked for once a day."
SIGN_IN: Final = "Sign in"
SIGN_OUT: Final = "Sign out"
SIGNED_IN_ALREADY: Final = "Signed in already, and came here by a link?"
OPEN_LIST: Final = "Open the list"
WRONG_KEY: Final = "This key is not valid. Copy it whole, or ask your supervisor for a new one."
WRONG_SCOPE: Final = "This key may not be used here. Ask your supervisor for one that may read and call."
ENDED: Final = "You are not signed in any more. Nothing was marked: sign in, then mark the call again."

SKIP: Final = "Skip to the list"
DISTRICT: Final = "District"
ALL_DISTRICTS: Final = "All districts"
NO_DISTRICT: Final = "No district"
VIEWS: Final = "Which calls"
VIEW: Final[Mapping[Chosen, str]] = {"all": "All", "open": "To call", "again": "Try again"}
PAGES: Final = "Pages"
BEFORE: Final = "Before"
NEXT: Final = "Next"
NOBODY: Final[Mapping[str, str]] = {
    "all": "Nobody is on this list.",
    "open": "Everybody here is called.",
    "again": "Nobody here is to be tried again.",
}

STATE: Final[Mapping[str, str]] = {"U": "Unresponsive", "R": "Responsive"}
NEVER_CALLED: Final = "not called lately"
OUTCOME: Final[Mapping[str, str]] = {
    "reached": "Reached",
    "no_answer": "No answer",
    "busy": "Busy",
    "wrong_number": "Wrong number",
    "refused": "Refused",
}
MARK: Final = "Mark the call"
MARK_AGAIN: Final = "Called again, or marked by mistake"
MARK_AGAIN_HINT: Final = "The last mark counts. Earlier ones stay on record."
CALL_FIRST: Final = "What came of the call?"

LOST: Final = (
    "The database does not answer, so nothing can be marked now, and marks made today are not shown. This list may not "
    "be the newest. Write outcomes down and mark them later."
)
SAID: Final[Mapping[str, str]] = {
    "known": "Somebody marked this call meanwhile. Nothing was added; see what stands below.",
    "unlisted": "She is not on this list any more. Nothing was marked.",
}

GO_BACK: Final = "Back to the list"
REFERENCE: Final = "Reference for support:"
PROBLEM: Final[Mapping[int, tuple[str, str]]] = {
    400: ("This could not be read", "Nothing was marked. Open the list and try again."),
    403: ("This did not come from the sheet", "Nothing was marked. Open the list and try again from there."),
    413: ("This is too long", "Nothing was marked. Open the list and try again."),
    415: ("This could not be read", "Nothing was marked. Open the list and try again."),
    422: ("This could not be read", "Nothing was marked. Open the list and try again."),
    429: ("Too often", "That was asked too often. Wait a minute, then try again."),
    503: ("The list is not available", "Nothing was marked. Try again in a few minutes; the list will come back."),
    500: ("Something went wrong", "It is written in the log. Open the list and see what is marked."),
}
NOT_READY: Final = ("There is no list yet", "The first list comes after the first night. Come again then.")


def day(value: date) -> str:
    """A day, as in: Thursday 19 November 2026."""
    return f"{value:%A} {value.day} {value:%B %Y}"


def not_of_today(call_date: date, today: date) -> str:
    """The list is older than today."""
    return f"This is the list of {day(call_date)}, not of today, {day(today)}. Today's list is not there yet."


def last_called(last_call_date: date | None, today: date) -> str:
    """How long ago a call was last attempted, as the list knew it."""
    if last_call_date is None:
        return NEVER_CALLED
    n_days = (today - last_call_date).days
    if n_days <= 0:
        return "last called today"
    return "last called yesterday" if n_days == 1 else f"last called {n_days} days ago"


def moment(instant: datetime, today: date) -> str:
    """A moment in India: 11:05, with its day when that is not today."""
    local = instant.astimezone(PROGRAMME_TIME_ZONE)
    clock = f"{local:%H:%M}"
    return clock if day_of(instant) == today else f"{local.day} {local:%b}, {clock}"


def attempt(n_attempts: int) -> str:
    """Which call of the day to her it was; nothing is said of the first."""
    return "" if n_attempts <= 1 else f"call {n_attempts}"


def progress(n_called: int, n_listed: int) -> str:
    """How far the list is called."""
    return f"{n_called} of {n_listed} called"


def page_of(page: int, n_pages: int) -> str:
    """Where the reader is."""
    return f"Page {page} of {n_pages}"


def marked(rank: int) -> str:
    """A mark was made."""
    return f"Number {rank} is marked."
