"""Monitored channels: some channels' samples, averaged, on an OCS feed; apart from what records."""
