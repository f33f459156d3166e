"""A simulated SMuRF stream on a real spt3g G3NetworkSender. `python -m testbed.smurf`"""
