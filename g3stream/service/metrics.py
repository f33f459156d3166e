"""Metrics in Prometheus's text format."""

import os
import platform
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import version
from typing import TypeVar

import confluent_kafka
from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from g3stream.service.histogram import BOUNDS_SECONDS, LatencyCounts

Family = TypeVar("Family", CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily)


class MetricsSnapshot(Collector):
    """A program's metrics at one moment. prefix: begins all their names.

    Each method adds a value; called again with the same name and other labels, another value of the same metric.
    Units are Prometheus's: seconds, bytes.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._families: dict[str, Metric] = {}
        self._labels: Mapping[str, str] = {}

    def labelled(self, **labels: str) -> "MetricsSnapshot":
        """Return a view of this snapshot that adds these labels, besides its own, to each value."""
        view = MetricsSnapshot(self._prefix)
        view._families = self._families
        view._labels = {**self._labels, **labels}
        return view

    def gauge(self, name: str, text: str, value: float) -> None:
        """Add a gauge's value."""
        self._family(GaugeMetricFamily, name, text).add_metric(list(self._labels.values()), value)

    def counter(self, name: str, text: str, value: float) -> None:
        """Add a counter's value; `_total` is appended to its name."""
        self._family(CounterMetricFamily, name, text).add_metric(list(self._labels.values()), value)

    def histogram(self, name: str, text: str, latency: LatencyCounts) -> None:
        """Add a histogram of latencies."""
        total, buckets = 0, []
        for bound, count in zip((*map(str, BOUNDS_SECONDS), "+Inf"), latency.counts, strict=True):
            total += count
            buckets.append((bound, total))
        family = self._family(HistogramMetricFamily, name, text)
        family.add_metric(list(self._labels.values()), buckets, latency.total_s)

    def disk_space(self, name: str, what: str, found: os.statvfs_result | None) -> None:
        """Add a file system's size and free space; nothing if `found` is None."""
        if found is None:
            return
        free_bytes, size_bytes = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
        self.gauge(f"{name}_free_bytes", f"Bytes free in the file system of {what}.", free_bytes)
        self.gauge(f"{name}_size_bytes", f"Bytes in all in the file system of {what}.", size_bytes)

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics, as prometheus-client's collectors do."""
        yield from self._families.values()

    def render(self) -> bytes:
        """Return all metrics, the build, and the process's metrics (memory, CPU, file descriptors) in text format."""
        build = self.labelled(**_versions())
        build.gauge("build_info", "1; the labels are the versions of g3-recorder, Python and librdkafka.", 1)
        registry = CollectorRegistry()
        for each in (self, ProcessCollector(registry=None), PlatformCollector(registry=None)):
            registry.register(each)
        return generate_latest(registry)

    def _family(self, kind: type[Family], name: str, text: str) -> Family:
        if name not in self._families:
            self._families[name] = kind(self._prefix + name, text, labels=list(self._labels))
        family = self._families[name]
        assert isinstance(family, kind)
        return family


@cache
def _versions() -> Mapping[str, str]:
    """Return the versions by label. Cached, as metadata are read from disk, which takes 1 ms or more."""
    librdkafka, _ = confluent_kafka.libversion()
    return {"version": version("g3-recorder"), "python": platform.python_version(), "librdkafka": librdkafka}
