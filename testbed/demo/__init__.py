"""Demos: `make demo` and `make demo-ocs` record a short night and compare the recording with what was sent."""
