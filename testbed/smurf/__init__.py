"""A simulated SMuRF stream on a real spt3g G3NetworkSender. Run it with `python -m testbed.smurf`."""
