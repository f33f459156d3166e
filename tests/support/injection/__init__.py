"""Fault injection: proxies, stopped system calls, stepped clocks, file systems that behave like others."""
