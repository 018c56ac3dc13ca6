"""One message as it arrived, whatever it came from."""

from dataclasses import dataclass


@dataclass(frozen=True)
class EventRecord:
    """One message: where it was in its source, and its JSON text."""

    position: str
    """The broker's message id, or the line of a file as `line 17`."""
    payload: bytes | None
    """None when no message could be cut out."""
    problem: str | None = None
    """Why there is no payload."""
