"""Apache Kafka without Docker: one broker or a cluster, and MirrorMaker. `python -m testbed.kafka`"""
