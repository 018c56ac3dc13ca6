"""The real client of Pub/Sub against a local broker: leased, kept or handed back, and never lost."""

import time
from collections.abc import Iterator

import pytest

from bandicoot_core.errors import InvalidSettingError, UnreachableError
from bandicoot_core.stores.events.subscription import Subscription
from tests.servers.pubsub import SUBSCRIPTION, PubSubServer, pubsub_server


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Iterator[PubSubServer]:
    with pubsub_server() as server:
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", server.endpoint)
        yield server


@pytest.fixture
def subscription(broker: PubSubServer) -> Iterator[Subscription]:
    with Subscription(SUBSCRIPTION, timeout_seconds=5) as opened:
        yield opened


def test_what_is_acknowledged_is_gone_and_what_is_not_comes_again(
    broker: PubSubServer, subscription: Subscription
) -> None:
    broker.publish([b"a", b"b", b"c"])
    first = subscription.pull(2)
    rest = subscription.pull(10)
    assert sorted(each.payload or b"" for each in (*first.records, *rest.records)) == [b"a", b"b", b"c"]
    assert subscription.pull(10).records == ()
    subscription.acknowledge(first)
    subscription.release(rest)
    assert [each.position for each in subscription.pull(10).records] == [each.position for each in rest.records]
    assert broker.n_left == 1


def test_an_acknowledgement_after_the_lease_does_not_count(broker: PubSubServer, subscription: Subscription) -> None:
    broker.publish([b"a"])
    batch = subscription.pull(1)
    broker.end_leases()
    subscription.acknowledge(batch)
    assert broker.n_left == 1
    again = subscription.pull(1)
    subscription.acknowledge(batch)
    assert broker.n_left == 1
    subscription.acknowledge(again)
    assert broker.n_left == 0


def test_a_batch_has_more_messages_than_one_answer(broker: PubSubServer, subscription: Subscription) -> None:
    broker.publish([f"{n}".encode() for n in range(5_500)])
    batch = subscription.pull(5_000)
    assert len(batch.records) == len(batch.ack_ids) == 5_000
    subscription.acknowledge(batch)
    assert broker.n_left == 500


def test_an_outage_is_said_and_over_when_the_broker_is_back(broker: PubSubServer, subscription: Subscription) -> None:
    broker.publish([b"a"])
    broker.refuse(60)
    with pytest.raises(UnreachableError, match="does not answer for projects/test/subscriptions/events"):
        subscription.pull(1)
    broker.refuse(0)
    batch = subscription.pull(1)
    broker.stop()
    with pytest.raises(UnreachableError):
        subscription.acknowledge(batch)
    subscription.release(batch)
    broker.start()
    broker.end_leases()
    deadline = time.monotonic() + 20
    while not (batch := _pulled(subscription)).records and time.monotonic() < deadline:
        time.sleep(0.2)
    assert [each.payload for each in batch.records] == [b"a"]


def test_a_subscription_that_is_not_there_is_named(broker: PubSubServer, subscription: Subscription) -> None:
    broker.has_subscription = False
    with pytest.raises(InvalidSettingError, match=r"there is no subscription .*BANDICOOT_EVENTS_SUBSCRIPTION"):
        subscription.pull(1)


def test_without_credentials_it_is_said_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PUBSUB_EMULATOR_HOST", raising=False)
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("CLOUDSDK_CONFIG", "/nowhere")
    with pytest.raises(InvalidSettingError, match="no credentials for it"):
        Subscription(SUBSCRIPTION, timeout_seconds=1)


def _pulled(subscription: Subscription) -> object:
    try:
        return subscription.pull(1)
    except UnreachableError:
        return type("Nothing", (), {"records": ()})
