"""Main program of an agent: runs the recorder in this process, and the bridge to OCS, until a signal."""

import argparse
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from ocs import site_config

from archiver.console.arguments import carried_types
from archiver.core.events import Event
from g3_agents.bridge import OcsBridge
from g3_agents.plugin import agents
from g3_agents.services import Recorder, RecorderState
from g3_agents.session_data import LastErrors, SessionReport
from g3stream.host.standard_streams import prepare_standard_streams
from g3stream.log.setup import service_log
from g3stream.service.process_exit import end_process
from g3stream.service.stop_signals import StopSignals

log = logging.getLogger(__name__)

_UPDATE_SECONDS = 1.0
_STOP_SECONDS = 9.0
"""OCS and Docker kill a process that takes longer than 10 s to stop."""


class AgentOperations:
    """The operations of an agent, in the process that OCS sees.

    agent: its OCSAgent. recorder: the link to the process that records (bridge_process.py).
    """

    def __init__(self, agent: Any, recorder: Any) -> None:
        self.agent = agent
        self.recorder = recorder


def parse(agent_class: str, parser: argparse.ArgumentParser, args: list[str] | None) -> argparse.Namespace:
    """Parse the options and start the log.

    args: override the site file; the command line if None.
    """
    prepare_standard_streams()
    options: argparse.Namespace = site_config.parse_args(agent_class=agent_class, parser=parser, args=args)
    try:
        carried_types(vars(options).get("carry", ()))
    except ValueError as error:
        parser.error(f"argument --carry: {error}")
    level = os.environ.get("LOGLEVEL", "info").lower().replace("trace", "debug")  # OCS has one below debug
    if level.upper() not in logging.getLevelNamesMapping():
        parser.error(f"the environment variable LOGLEVEL: {level!r} is not one of error, warn, info, debug")
    service_log(level)
    return options


def run(
    options: argparse.Namespace, process: str, make_recorder: Callable[[Callable[[Event], None]], Recorder]
) -> None:
    """Run a recorder as the agent `options.agent_class` until SIGTERM or SIGINT, then stop it within 10 s.

    process: the name of its OCS process. make_recorder: makes the recorder; its argument is the callback for the
    recorder's events.
    """
    errors = LastErrors()
    logging.getLogger().addHandler(errors)
    stop_requested, wake = threading.Event(), threading.Event()

    def stop() -> None:
        stop_requested.set()
        wake.set()

    def on_command(command: str) -> None:
        {"start": recorder.start, "stop": recorder.stop}[command]()
        wake.set()

    def on_choice(values: Mapping[str, Any]) -> None:
        if recorder.monitored:
            recorder.monitored.choose(values)
        wake.set()

    def on_event(event: Event) -> None:
        bridge.publish(report.add_event(event, time.time()))

    def update_status() -> None:
        try:
            bridge.update_status(report.snapshot(time.time()))
        except Exception:  # a fault in reporting must not end the recording
            log.exception("the status can't be sent to OCS; recording continues")

    recorder = make_recorder(on_event)
    report = SessionReport(recorder, errors)
    hello = {
        "site": _site(options),
        "module": agents[options.agent_class]["module"],
        "process": process,
        "monitoring": recorder.monitored is not None,
        "so3g_python": vars(options).get("so3g_python"),
        "archive_stats": vars(options).get("suprsync_db") is not None,  # ingest has no such option
    }
    bridge = OcsBridge(hello, options.site_hub, on_command, on_choice)
    with StopSignals() as signals, bridge:
        signals.on_stop(stop)
        if options.auto_start:
            recorder.start()
        while not stop_requested.is_set():
            update_status()
            wake.wait(_UPDATE_SECONDS)
            wake.clear()
        recorder.stop()
        if recorder.monitored:
            recorder.monitored.stop()
        give_up_at = time.monotonic() + _STOP_SECONDS
        while recorder.state is not RecorderState.STOPPED and time.monotonic() < give_up_at:
            update_status()
            time.sleep(0.05)
        update_status()
    if recorder.state is not RecorderState.STOPPED:
        # All data is on disk or in Kafka; what it waits for may take longer than OCS and Docker allow.
        log.warning("not everything has stopped in time; recording continues from there at the next start")
        end_process(0)


def _site(options: argparse.Namespace) -> Mapping[str, Any]:
    """Return OCS' own options only: the recorder's, some of them secret, are not for the other process."""
    names = [*vars(site_config.add_arguments().parse_args([])), "agent_class"]
    return {name: getattr(options, name) for name in names}
