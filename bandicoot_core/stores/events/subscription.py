"""A Google Pub/Sub subscription: messages are leased in batches, and acknowledged or handed back as a whole.

The client library is an extra, and goes to the address in PUBSUB_EMULATOR_HOST when that is set. Even its errors take a
while to import, so this module is imported by those who open a subscription.
"""

import importlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

from google.api_core import exceptions
from google.auth.exceptions import GoogleAuthError, TransportError

from bandicoot_core.errors import BandicootError, InvalidSettingError, UnreachableError
from bandicoot_core.stores.events.records import EventRecord

_MESSAGES_PER_PULL = 1000
_IDS_PER_REQUEST = 2000
"""A request may have 512 KiB; an id has some 200 bytes."""

_EMPTY_SECONDS = 2.0
"""How long a pull waits for a first message."""


class _NothingCameError(UnreachableError):
    """The time ran out; a pull of an empty subscription ends like that, too."""


@dataclass(frozen=True)
class PulledBatch:
    """Messages that are leased together."""

    records: tuple[EventRecord, ...]
    ack_ids: tuple[str, ...]
    """One for each delivery; the same message delivered again has another."""


class Subscription:
    """Pulls from one subscription; a context manager that closes the connection.

    Every method raises UnreachableError when the broker does not answer in time, and InvalidSettingError when there is
    no such subscription or it may not be read.
    """

    def __init__(self, path: str, *, timeout_seconds: float, lease_seconds: int = 120) -> None:
        """`path`: projects/P/subscriptions/S. `lease_seconds`: how long others do not get what is pulled, at most 600.

        InvalidSettingError when the client library is not installed, or no credentials are found.
        """
        self.name = path
        self._timeout = timeout_seconds
        self._lease = lease_seconds
        self._client = _open_client(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection; what is leased comes again when its lease is over."""
        self._client.close()

    def pull(self, max_messages: int) -> PulledBatch:
        """At most so many messages, leased to the caller; none when nothing waits.

        A broker gives a thousand at once at most and often fewer: it is asked until it has no more, or until about
        `timeout_seconds` are over.
        """
        records: list[EventRecord] = []
        ack_ids: list[str] = []
        until = time.monotonic() + self._timeout
        while len(records) < max_messages:
            received = self._pull_once(min(_MESSAGES_PER_PULL, max_messages - len(records)))
            if not received:
                break
            ids = [message.ack_id for message in received]
            self._extend(ids, self._lease)
            ack_ids += ids
            records += [EventRecord(each.message.message_id, bytes(each.message.data)) for each in received]
            if time.monotonic() > until:
                break
        return PulledBatch(tuple(records), tuple(ack_ids))

    def acknowledge(self, batch: PulledBatch) -> None:
        """Tell the broker that all of the batch is kept; what its lease has ended for meanwhile may come again."""
        for ids in _chunks(batch.ack_ids):
            self._ask(partial(self._client.acknowledge, ack_ids=ids))

    def release(self, batch: PulledBatch) -> None:
        """Hand the batch back at once. A broker that is away does not matter: the lease ends by itself."""
        for ids in _chunks(batch.ack_ids):
            try:
                self._extend(ids, 0)
            except BandicootError:
                return

    def _pull_once(self, max_messages: int) -> Sequence[Any]:
        try:
            # The broker waits a while for a first message; an empty subscription lets the time run out.
            answer = self._ask(
                partial(self._client.pull, max_messages=max_messages), seconds=min(self._timeout, _EMPTY_SECONDS)
            )
        except _NothingCameError:
            return []
        return answer.received_messages

    def _extend(self, ack_ids: Sequence[str], seconds: int) -> None:
        for ids in _chunks(ack_ids):
            self._ask(partial(self._client.modify_ack_deadline, ack_ids=ids, ack_deadline_seconds=seconds))

    def _ask(self, request: Callable[..., Any], *, seconds: float | None = None) -> Any:
        """One request. The library's own retries would go on for minutes: who calls comes again anyhow."""
        with _foreseen(self.name):
            return request(subscription=self.name, timeout=seconds or self._timeout, retry=None)


def _open_client(path: str) -> Any:
    try:
        pubsub = importlib.import_module("google.cloud.pubsub_v1")
    except ImportError as error:
        raise InvalidSettingError(
            f"events_subscription is {path}, and the client of Pub/Sub is not installed; "
            "pip install 'bandicoot[pubsub]', or unset BANDICOOT_EVENTS_SUBSCRIPTION"
        ) from error
    try:
        return pubsub.SubscriberClient()
    except GoogleAuthError as error:
        raise InvalidSettingError(
            f"events_subscription is {path}, and there are no credentials for it; run as a service account that has "
            "roles/pubsub.subscriber on it, or set GOOGLE_APPLICATION_CREDENTIALS"
        ) from error


@contextmanager
def _foreseen(path: str) -> Iterator[None]:
    try:
        yield
    except (exceptions.NotFound, exceptions.InvalidArgument) as error:
        raise InvalidSettingError(
            f"there is no subscription {path} ({error.message}); make it, or correct BANDICOOT_EVENTS_SUBSCRIPTION"
        ) from error
    except (exceptions.Forbidden, exceptions.Unauthorized) as error:
        raise InvalidSettingError(
            f"{path} may not be read by this service account; grant it roles/pubsub.subscriber on the subscription"
        ) from error
    except TransportError as error:
        raise UnreachableError(f"{path}: no credentials could be fetched ({error}); try again later") from error
    except GoogleAuthError as error:
        raise InvalidSettingError(f"{path}: the credentials are not taken ({error})") from error
    except exceptions.DeadlineExceeded as error:
        raise _NothingCameError(f"Pub/Sub does not answer for {path} in time; nothing is lost") from error
    except exceptions.GoogleAPICallError as error:
        raise UnreachableError(
            f"Pub/Sub does not answer for {path} ({type(error).__name__}); nothing is lost, what was pulled comes again"
        ) from error


def _chunks(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for first in range(0, len(ids), _IDS_PER_REQUEST):
        yield ids[first : first + _IDS_PER_REQUEST]
