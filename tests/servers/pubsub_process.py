"""The local Pub/Sub broker in a process of its own: where a test forks, threads of gRPC must not run."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.managers import BaseManager, BaseProxy
from typing import Any

from tests.servers.pubsub import PubSubServer


class PubSubProcess(BaseProxy):
    """What a test asks of a broker elsewhere; each call is a request to its process."""

    _exposed_ = ("publish", "refuse", "end_leases", "start", "stop", "__getattribute__")

    @property
    def endpoint(self) -> str:
        """What PUBSUB_EMULATOR_HOST has to be."""
        return str(self._read("endpoint"))

    @property
    def n_left(self) -> int:
        """Messages that nobody has acknowledged."""
        return int(self._read("n_left"))

    @property
    def n_delivered(self) -> int:
        """Messages handed out, each time it happened."""
        return int(self._read("n_delivered"))

    def publish(self, payloads: Sequence[bytes]) -> None:
        """Publish without a client, many at once."""
        self._callmethod("publish", (payloads,))

    def refuse(self, seconds: float) -> None:
        """Answer every request with UNAVAILABLE for so long."""
        self._callmethod("refuse", (seconds,))

    def end_leases(self) -> None:
        """Let the time of every lease be over."""
        self._callmethod("end_leases")

    def start(self) -> None:
        """Answer again, at the same address, with what was there."""
        self._callmethod("start")

    def stop(self) -> None:
        """Answer no more; what is being answered ends first."""
        self._callmethod("stop")

    def _read(self, name: str) -> Any:
        call: Callable[..., Any] = self._callmethod
        return call("__getattribute__", (name,))


class _Brokers(BaseManager):
    pass


_Brokers.register("broker", PubSubServer, proxytype=PubSubProcess)


@contextmanager
def pubsub_process(*, seed: int, repeated_share: float, is_shuffled: bool) -> Iterator[PubSubProcess]:
    """A broker in another process that answers inside the block."""
    with _Brokers(ctx=get_context("spawn")) as brokers:
        served: Any = brokers
        broker: PubSubProcess = served.broker(seed=seed, repeated_share=repeated_share, is_shuffled=is_shuffled)
        broker.start()
        try:
            yield broker
        finally:
            broker.stop()
