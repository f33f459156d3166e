"""Metrics in Prometheus' text format."""

import os
from collections.abc import Iterator, Mapping
from typing import TypeVar

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from g3stream.service.histogram import BOUNDS_SECONDS, LatencyCounts

Family = TypeVar("Family", CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily)


class MetricsSnapshot(Collector):
    """A program's metrics at one moment. prefix: of all their names.

    The methods add a value each; with the same name and other labels, another of the same metric. Units are
    Prometheus': seconds, bytes.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._families: dict[str, Metric] = {}
        self._labels: Mapping[str, str] = {}

    def labelled(self, **labels: str) -> "MetricsSnapshot":
        """The same, but that what is added to it has these labels, besides those that this one gives."""
        same = MetricsSnapshot(self._prefix)
        same._families = self._families
        same._labels = {**self._labels, **labels}
        return same

    def gauge(self, name: str, text: str, value: float) -> None:
        """What goes up and down."""
        self._family(GaugeMetricFamily, name, text).add_metric(list(self._labels.values()), value)

    def counter(self, name: str, text: str, value: float) -> None:
        """What is only counted up; its name gets `_total` at the end."""
        self._family(CounterMetricFamily, name, text).add_metric(list(self._labels.values()), value)

    def histogram(self, name: str, text: str, latency: LatencyCounts) -> None:
        """A histogram of times."""
        total, buckets = 0, []
        for bound, count in zip((*map(str, BOUNDS_SECONDS), "+Inf"), latency.counts, strict=True):
            total += count
            buckets.append((bound, total))
        family = self._family(HistogramMetricFamily, name, text)
        family.add_metric(list(self._labels.values()), buckets, latency.total_s)

    def disk_space(self, name: str, what: str, found: os.statvfs_result | None) -> None:
        """How much there is and how much is free in a file system; nothing if that can't be had now."""
        if found is None:
            return
        self.gauge(f"{name}_free_bytes", f"Bytes free in the file system of {what}.", found.f_bavail * found.f_frsize)
        self.gauge(
            f"{name}_size_bytes", f"Bytes in all in the file system of {what}.", found.f_blocks * found.f_frsize
        )

    def collect(self) -> Iterator[Metric]:
        """As prometheus-client's collectors do."""
        yield from self._families.values()

    def render(self) -> bytes:
        """All of it, and what there is to say of this process: its memory, CPU time, file descriptors."""
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
