"""Kafka's client quotas, set with Kafka's own tool, as an operator does."""

import subprocess

from testbed.kafka.distribution import installation

_SECONDS = 60.0


def set_default_quota(servers: str, name: str, bytes_per_second: int) -> None:
    """Set a quota for every client of the broker, by its client.id."""
    arguments = ("--bootstrap-server", servers, "--alter", "--entity-type", "clients", "--entity-default")
    setting = ("--add-config", f"{name}={bytes_per_second}")
    command = installation().command("kafka.admin.ConfigCommand", *arguments, *setting)
    done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
