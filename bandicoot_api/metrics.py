"""What the service tells Prometheus: how long routes take, what they answer, and how old the list is."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_BYTES = (0, 256, 1024, 4096, 16_384, 65_536, 262_144, 1_048_576, 8_388_608)


class Metrics:
    """One process's metrics, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.seconds = Histogram(
            "bandicoot_api_request_seconds",
            "Time from a request's first byte to its answer's last, by route, method and class of status",
            ("route", "method", "status"),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.request_bytes = Histogram(
            "bandicoot_api_request_bytes",
            "Size of request bodies as announced, by route",
            ("route",),
            buckets=_BYTES,
            registry=self.registry,
        )
        self.recommendations = Counter(
            "bandicoot_api_recommendations",
            "Caregivers recommended, by tier and why it was that tier",
            ("tier", "tier_reason"),
            registry=self.registry,
        )
        self.answers = Counter(
            "bandicoot_api_answers",
            "Recommendation requests by where the answer came from: memory, redis, or computed",
            ("source",),
            registry=self.registry,
        )
        self.refused = Counter(
            "bandicoot_api_refused",
            "Requests refused by a guard: admission, rate, size, key, scope, form, timeout",
            ("guard",),
            registry=self.registry,
        )
        self.cold_start_seconds = Gauge(
            "bandicoot_api_cold_start_seconds",
            "From the start of the process to its first answer; 0 before",
            registry=self.registry,
        )
        self.cold_starts = Counter(
            "bandicoot_api_cold_starts", "Processes that have given a first answer", registry=self.registry
        )
        self.list_age_seconds = Gauge(
            "bandicoot_api_list_age_seconds",
            "Since 00:00 in India of the newest list's day; NaN before the first list",
            registry=self.registry,
        )
        self.list_age_seconds.set(float("nan"))
        self.outcomes = Counter(
            "bandicoot_api_outcomes",
            "Call outcomes received, by what became of them: recorded, known, refused",
            ("result",),
            registry=self.registry,
        )
        self.is_database_away = Gauge(
            "bandicoot_api_database_away", "1 while PostgreSQL does not answer", registry=self.registry
        )
        for guard in ("admission", "rate", "size", "key", "scope", "form", "timeout"):
            self.refused.labels(guard)
        for source in ("memory", "redis", "computed"):
            self.answers.labels(source)
