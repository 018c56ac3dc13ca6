"""A local Pub/Sub broker over gRPC, for the real client: leases that end, acknowledgements that may come too late,
duplicates and disorder by a seed, and outages that keep what it holds.

It speaks the part of the protocol that pulling and publishing need, with the message types of the client library.
"""

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf import empty_pb2
from google.pubsub_v1 import types

PROJECT = "projects/test"
SUBSCRIPTION = f"{PROJECT}/subscriptions/events"
TOPIC = f"{PROJECT}/topics/events"


@dataclass
class _Lease:
    message_id: str
    until: float


class PubSubServer:
    """One topic with one subscription. What was published stays until it is acknowledged, whatever happens to it."""

    def __init__(self, *, seed: int = 0, repeated_share: float = 0, is_shuffled: bool = False) -> None:
        """`repeated_share`: how many deliveries come a second time though nobody asked for it."""
        self._random = random.Random(seed)  # noqa: S311
        self._repeated_share = repeated_share
        self._is_shuffled = is_shuffled
        self._lock = threading.Lock()
        self._messages: dict[str, bytes] = {}
        self._ready: list[str] = []
        self._leases: dict[str, _Lease] = {}
        self._server: grpc.Server | None = None
        self._past: list[grpc.Server] = []
        self._idle = threading.Condition()
        self._n_answering = 0
        self._is_away = False
        self._port = 0
        self._refusing_until = 0.0
        self.has_subscription = True
        self.n_published = self.n_delivered = self.n_acknowledged = 0

    @property
    def endpoint(self) -> str:
        """What PUBSUB_EMULATOR_HOST has to be."""
        return f"127.0.0.1:{self._port}"

    @property
    def n_left(self) -> int:
        """Messages that nobody has acknowledged."""
        with self._lock:
            return len(self._messages)

    def publish(self, payloads: Sequence[bytes]) -> None:
        """Publish without a client, many at once."""
        with self._lock:
            for payload in payloads:
                self._publish(payload)
            if self._is_shuffled:
                self._random.shuffle(self._ready)

    def refuse(self, seconds: float) -> None:
        """Answer every request with UNAVAILABLE for so long."""
        self._refusing_until = time.monotonic() + seconds

    def end_leases(self) -> None:
        """Let the time of every lease be over."""
        with self._lock:
            for lease in self._leases.values():
                lease.until = 0

    def start(self) -> None:
        """Answer again, at the same address, with what was there."""
        self._is_away = False
        self._server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers((self._handlers("Subscriber"), self._handlers("Publisher")))
        self._port = self._server.add_insecure_port(f"127.0.0.1:{self._port}")
        self._server.start()

    def stop(self) -> None:
        """Answer no more; what is being answered ends first, and every connection after it."""
        if self._server is None:
            return
        self._is_away = True
        # Taken from under answers that are still being made, gRPC's own memory would be gone.
        with self._idle:
            self._idle.wait_for(lambda: self._n_answering == 0)
        self._server.stop(None).wait()
        self._past.append(self._server)
        self._server = None

    def _handlers(self, service: str) -> grpc.GenericRpcHandler:
        methods: dict[str, tuple[Callable[[Any, grpc.ServicerContext], Any], Any, Any]] = {
            "Subscriber": {
                "Pull": (self._pull, types.PullRequest, types.PullResponse),
                "Acknowledge": (self._acknowledge, types.AcknowledgeRequest, None),
                "ModifyAckDeadline": (self._modify, types.ModifyAckDeadlineRequest, None),
                "GetSubscription": (self._describe, types.GetSubscriptionRequest, types.Subscription),
            },
            "Publisher": {"Publish": (self._take, types.PublishRequest, types.PublishResponse)},
        }[service]
        return grpc.method_handlers_generic_handler(
            f"google.pubsub.v1.{service}",
            {
                name: grpc.unary_unary_rpc_method_handler(
                    self._guarded(answer),
                    request_deserializer=request.deserialize,
                    response_serializer=response.serialize if response else empty_pb2.Empty.SerializeToString,
                )
                for name, (answer, request, response) in methods.items()
            },
        )

    def _guarded(self, answer: Callable[[Any, grpc.ServicerContext], Any]) -> Callable[..., Any]:
        def guarded(request: Any, context: grpc.ServicerContext) -> Any:
            with self._idle:
                self._n_answering += 1
            try:
                if self._is_away or time.monotonic() < self._refusing_until:
                    context.abort(grpc.StatusCode.UNAVAILABLE, "away")
                if not self.has_subscription or getattr(request, "subscription", SUBSCRIPTION) != SUBSCRIPTION:
                    context.abort(grpc.StatusCode.NOT_FOUND, "no such subscription")
                return answer(request, context)
            finally:
                with self._idle:
                    self._n_answering -= 1
                    self._idle.notify_all()

        return guarded

    def _take(self, request: types.PublishRequest, _: grpc.ServicerContext) -> types.PublishResponse:
        with self._lock:
            ids = [self._publish(message.data) for message in request.messages]
        return types.PublishResponse(message_ids=ids)

    def _publish(self, payload: bytes) -> str:
        self.n_published += 1
        message_id = f"{self.n_published:09d}"
        self._messages[message_id] = payload
        self._ready.append(message_id)
        return message_id

    def _pull(self, request: types.PullRequest, _: grpc.ServicerContext) -> types.PullResponse:
        until = time.monotonic() + 1
        while not (received := self._lease(request.max_messages)) and time.monotonic() < until and not self._is_away:
            time.sleep(0.02)
        return types.PullResponse(received_messages=received)

    def _lease(self, max_messages: int) -> list[types.ReceivedMessage]:
        now = time.monotonic()
        with self._lock:
            for ack_id in [name for name, lease in self._leases.items() if lease.until < now]:
                self._hand_back(ack_id)
            received = []
            while self._ready and len(received) < max_messages:
                message_id = self._ready.pop()
                if message_id not in self._messages:
                    continue
                self.n_delivered += 1
                ack_id = f"{message_id}-{self.n_delivered}"
                self._leases[ack_id] = _Lease(message_id, now + 10)
                message = types.PubsubMessage(data=self._messages[message_id], message_id=message_id)
                received.append(types.ReceivedMessage(ack_id=ack_id, message=message))
                if self._random.random() < self._repeated_share:
                    self._ready.insert(0, message_id)
        return received

    def _hand_back(self, ack_id: str) -> None:
        lease = self._leases.pop(ack_id)
        if lease.message_id in self._messages:
            self._ready.insert(
                self._random.randrange(len(self._ready) + 1) if self._is_shuffled else 0, lease.message_id
            )

    def _acknowledge(self, request: types.AcknowledgeRequest, _: grpc.ServicerContext) -> empty_pb2.Empty:
        with self._lock:
            for ack_id in request.ack_ids:
                lease = self._leases.pop(ack_id, None)
                # Too late: the message has been handed out again, or will be.
                if lease is not None and lease.until >= time.monotonic():
                    self.n_acknowledged += self._messages.pop(lease.message_id, None) is not None
                elif lease is not None:
                    self._leases[ack_id] = lease
        return empty_pb2.Empty()

    def _modify(self, request: types.ModifyAckDeadlineRequest, _: grpc.ServicerContext) -> empty_pb2.Empty:
        with self._lock:
            for ack_id in request.ack_ids:
                if ack_id in self._leases and request.ack_deadline_seconds:
                    self._leases[ack_id].until = time.monotonic() + request.ack_deadline_seconds
                elif ack_id in self._leases:
                    self._hand_back(ack_id)
        return empty_pb2.Empty()

    def _describe(self, request: types.GetSubscriptionRequest, _: grpc.ServicerContext) -> types.Subscription:
        return types.Subscription(name=request.subscription, topic=TOPIC, ack_deadline_seconds=10)


@contextmanager
def pubsub_server(*, seed: int = 0, repeated_share: float = 0, is_shuffled: bool = False) -> Iterator[PubSubServer]:
    """A broker that answers inside the block."""
    server = PubSubServer(seed=seed, repeated_share=repeated_share, is_shuffled=is_shuffled)
    server.start()
    try:
        yield server
    finally:
        server.stop()
