"""What runs the recorder on one machine: an embedded Kafka, a simulated SMuRF, a crossbar router, the demos.

For development, demos and tests; no product code imports it.
"""
