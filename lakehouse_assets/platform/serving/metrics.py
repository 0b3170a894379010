"""What a service counts, for Prometheus. Names and units follow its conventions: seconds, `_total`."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_ROWS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


class Metrics:
    """The counters of one service."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        of = self.registry
        self.requests = Counter("lakehouse_requests", "Requests, by answer.", ("endpoint", "status"), registry=of)
        self.rows = Counter("lakehouse_rows", "Rows that were scored.", ("endpoint", "variant"), registry=of)
        self.seconds = Histogram(
            "lakehouse_request_seconds", "Time from the first byte to the answer.", ("endpoint",), buckets=_SECONDS, registry=of
        )
        self.parts = Histogram(
            "lakehouse_part_seconds",
            "Time of each part: wait, features, predict, log.",
            ("endpoint", "part"),
            buckets=_SECONDS,
            registry=of,
        )
        self.batch = Histogram("lakehouse_batch_rows", "Rows that were scored at once.", ("endpoint",), buckets=_ROWS, registry=of)
        self.queue = Gauge("lakehouse_queue_rows", "Rows that wait.", registry=of)
        self.features = Counter(
            "lakehouse_features",
            "Rows whose looked-up features were not as they should be.",
            ("endpoint", "features", "status"),
            registry=of,
        )
        self.shadow_dropped = Counter(
            "lakehouse_shadow_dropped_rows", "Rows that the shadow did not score, under load.", ("endpoint",), registry=of
        )
        self.push_dropped = Counter(
            "lakehouse_push_dropped_rows", "Scored events that were not pushed to the online store, under load.", registry=of
        )
        self.log_backlog = Gauge("lakehouse_log_backlog_records", "Records of the inference log that are not in the lake yet.", registry=of)
        self.log_dropped = Gauge(
            "lakehouse_log_dropped_records", "Records that were lost: neither disk nor memory had room for them.", registry=of
        )
        self.log_waiting = Gauge(
            "lakehouse_log_waiting_bytes", "Bytes of records in memory that cannot be written: a kill would lose them.", registry=of
        )
        self.log_disk = Gauge("lakehouse_log_disk_bytes", "Bytes of records on the disk that are not in the lake yet.", registry=of)
        self.log_failing = Gauge(
            "lakehouse_log_failing", "Why records could not be written the last time; absent if they can.", ("reason",), registry=of
        )
        self.ingest_waiting = Gauge(
            "lakehouse_ingest_waiting_rows", "Accepted rows that have not landed yet; NaN: not known now.", ("feed",), registry=of
        )
        self.log_unreadable = Gauge(
            "lakehouse_log_unreadable_files", "Files of logged records that cannot be read, in serving/unreadable below HOME.", registry=of
        )
        self.background_restarts = Gauge(
            "lakehouse_background_restarts", "How often the background process was started again.", registry=of
        )
        self.background_failing = Gauge(
            "lakehouse_background_failing", "Background tasks that failed the last time: see /ready.", ("task",), registry=of
        )
        self.model = Gauge("lakehouse_model_version", "The version that answers.", ("endpoint", "variant"), registry=of)
        self.not_taken = Counter("lakehouse_models_not_taken", "Versions that were not taken: see /ready.", ("endpoint",), registry=of)
        self.synced = Gauge(
            "lakehouse_features_synced_seconds", "Until when the store knows a feature set, in Unix time.", ("features",), registry=of
        )

    def text(self) -> bytes:
        """All counters in Prometheus' format."""
        return generate_latest(self.registry)
