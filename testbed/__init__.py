"""Surroundings of the recorder on one machine: an embedded Kafka, a simulated SMuRF, a crossbar router, the demos.

For development, demos and tests. No product code imports it.
"""
