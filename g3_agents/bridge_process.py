"""The process that OCS sees: reports a recorder's status to OCS, and passes on OCS' commands. See bridge.py.

The recorder starts it as `python -m g3_agents.bridge_process FD`; FD is the file descriptor of the socket to it.
"""

import argparse
import importlib
import json
import os
import socket
import sys
from collections import deque
from typing import Any

import txaio

txaio.use_twisted()

from autobahn.twisted.wamp import ApplicationRunner  # noqa: E402  # after txaio's choice, as it demands
from autobahn.wamp.types import ComponentConfig  # noqa: E402
from ocs import ocs_agent  # noqa: E402
from twisted.internet import defer, reactor  # noqa: E402
from twisted.internet.protocol import Factory  # noqa: E402
from twisted.protocols.basic import LineReceiver  # noqa: E402

from g3_agents.monitored.choice import Choice, ChoiceError  # noqa: E402
from g3_agents.monitored.so3g import missing_so3g  # noqa: E402
from g3stream.log.setup import service_output  # noqa: E402

_END_DELAY_SECONDS = 0.3
_JOIN_TIMEOUT_SECONDS = 10.0
_MAX_LINE_BYTES = 1 << 22
ARCHIVE_STATS = "archive_stats"
"""The feed in which sotodlib looks for a `finalized_until`; socs' SupRsync agent has one of this name."""
DETECTORS = "detectors"
"""The feed of monitored channels; it has this name in socs 0.3.0, the last with a SmurfRecorder."""
MONITORING_TASKS = {"set_monitored_channels": "channels", "set_target_rate": "target_rate"}
"""Their names and parameters are from there, too."""


class StatusAgent(ocs_agent.OCSAgent):  # type: ignore[misc]  # ocs has no types
    """An OCSAgent that ends as soon as the router is disconnected, without stopping the recording.

    OCS' own agent waits for the router for a time, with longer and longer intervals, and then ends, perhaps just
    after it has joined again. The recorder notices at once when the router is back, and starts another process.
    """

    def onDisconnect(self) -> None:  # noqa: N802 - autobahn's name
        """End the process (called by autobahn)."""
        self.log.info("transport disconnected")
        _end()

    def _stop_all_running_sessions(self) -> Any:
        return defer.succeed(None)


# If a later OCS renames it, the end of this process would stop the recording: better no OCS than that.
if not hasattr(ocs_agent.OCSAgent, "_stop_all_running_sessions"):
    raise ImportError("this version of ocs stops an agent's processes in another way than g3_agents knows")


class Link(LineReceiver):  # type: ignore[misc]  # twisted's has no types for us
    """The agent's side of the bridge: the recorder's status and its commands.

    agent: an OCSAgent. status: the recorder's first status. feed: the name of the feed of numbers. so3g_python: of
    the agent's options.
    """

    delimiter = b"\n"
    MAX_LENGTH = _MAX_LINE_BYTES

    def __init__(self, agent: Any, status: dict[str, Any], feed: str, so3g_python: str | None) -> None:
        self._agent = agent
        self._status = status
        self._was_running = status["state"] != "stopped"
        self._feed = feed
        self._so3g_python = so3g_python
        self._next_status: defer.Deferred[None] = defer.Deferred()
        self._messages: deque[tuple[int, dict[str, Any]]] = deque()
        self._published_stats_at: float | None = None

    @defer.inlineCallbacks  # type: ignore[untyped-decorator]  # twisted, to mypy, has no types (pyproject.toml)
    def follow(self, session: Any) -> Any:
        """Run an OCS process: start the recorder, and report its status until it has stopped."""
        # A recorder that was running when this process started is only followed: it may have been stopped since,
        # and must not be started again.
        was_running, self._was_running = self._was_running, False
        runs = was_running or self._status["state"] != "stopped"
        starts_before = self._status["starts"] - runs
        if not was_running:
            self._send({"do": "start"})
        while self._status["starts"] == starts_before or self._status["state"] != "stopped":
            session.data = self._status["data"]
            session.degraded = self._status["degraded"]
            if self._status["state"] == "stopping" and session.status == "running":
                session.set_status("stopping")
            if self._agent.realm_joined:
                for message in self._status["feed"]:
                    self._agent.publish_to_feed(self._feed, message)
                stats = self._status.get("archive_stats")
                if stats and stats["timestamp"] != self._published_stats_at:
                    self._published_stats_at = stats["timestamp"]
                    self._agent.publish_to_feed(ARCHIVE_STATS, stats)
                for message in self._status["detectors"]:
                    self._agent.publish_to_feed(DETECTORS, message)
            yield self._next_status
        session.data = self._status["data"]
        session.degraded = False
        return True, "Stopped; what was received is recorded."

    @defer.inlineCallbacks  # type: ignore[untyped-decorator]  # twisted, to mypy, has no types (pyproject.toml)
    def stop(self, session: Any) -> Any:
        """Stop the recorder; `follow` returns when it has stopped."""
        if session.status in ("starting", "running"):
            session.set_status("stopping")
        self._send({"do": "stop"})
        yield
        return True, "Stopping."

    @defer.inlineCallbacks  # type: ignore[untyped-decorator]  # twisted, to mypy, has no types (pyproject.toml)
    def monitor(self, values: dict[str, Any]) -> Any:
        """Run an OCS task: monitor other channels, or with another target rate."""
        before = self._status["data"]["monitored"]
        try:
            choice = Choice(tuple(before["channels"]), before["target_rate"]).changed(values)
        except ChoiceError as error:
            return False, str(error)
        self._send({"monitor": values})
        yield
        if not choice.channels:
            return True, "No channel is monitored."
        what = f"Monitored channels: {', '.join(choice.names)}; averages at up to {choice.target_rate_hz:g} Hz"
        if missing := missing_so3g(self._so3g_python):
            return False, f"{what}. But nothing is published: {missing}"
        return True, f"{what}."

    def lineReceived(self, line: bytes) -> None:  # noqa: N802 - twisted's name
        """Process a line from the recorder (called by twisted)."""
        message = json.loads(line)
        if "number" in message:
            self._messages.append((message["number"], message["message"]))
        self._publish_messages()
        if "status" in message:
            self._status = message["status"]
            previous, self._next_status = self._next_status, defer.Deferred()
            previous.callback(None)

    def connectionLost(self, reason: Any = None) -> None:  # noqa: N802, ARG002
        """End the process (called by twisted): the recorder has ended, or has closed the socket."""
        reactor.callLater(_END_DELAY_SECONDS, _end)

    def _publish_messages(self) -> None:
        while self._messages and self._agent.realm_joined:
            number, message = self._messages.popleft()
            self._agent.publish_to_feed("files", message)
            self._send({"published": number})

    def _send(self, message: dict[str, Any]) -> None:
        self.transport.write(json.dumps(message).encode() + b"\n")


def main() -> None:
    """Run the agent until the recorder ends or the router is disconnected."""
    txaio.start_logging(out=service_output(1), level=os.environ.get("LOGLEVEL", "info").lower())
    with socket.socket(fileno=int(sys.argv[1])) as to_recorder:
        with to_recorder.makefile("rb", buffering=0) as unbuffered:
            hello = json.loads(unbuffered.readline())
        args = argparse.Namespace(**hello["site"])
        config, address = ComponentConfig(args.site_realm, {}), f"{args.address_root}.{args.instance_id}"
        agent = StatusAgent(config, args, address=address, class_name=args.agent_class)
        process, status = hello["process"], hello["status"]
        link = Link(agent, status, process, hello["so3g_python"])
        to_recorder.setblocking(False)
        reactor.adoptStreamConnection(to_recorder.fileno(), socket.AF_UNIX, Factory.forProtocol(lambda: link))
    agent.register_feed(process, record=True, agg_params={"frame_length": 60}, buffer_time=0)
    agent.register_feed("files", record=False)
    if hello["archive_stats"]:
        agent.register_feed(ARCHIVE_STATS, record=True)
    operations = getattr(importlib.import_module(hello["module"]), args.agent_class)(agent, link)
    if hello["monitoring"]:
        agent.register_feed(DETECTORS, record=True)
        for name, parameter in MONITORING_TASKS.items():
            task = getattr(operations, name)
            ocs_agent.param(parameter)(task.__func__)
            agent.register_task(name, task, blocking=False)
    start = getattr(operations, f"start_{process}")
    ocs_agent.param("_")(start.__func__)  # it takes no parameters: OCS rejects any
    stop, is_running = getattr(operations, f"_stop_{process}"), status["state"] != "stopped"
    agent.register_process(process, start, stop, blocking=False, startup=is_running)
    reactor.callLater(_JOIN_TIMEOUT_SECONDS, lambda: None if agent.realm_joined else _end())
    ApplicationRunner(args.site_hub, args.site_realm).run(agent, auto_reconnect=True)


def _end() -> None:
    if reactor.running:
        reactor.stop()


if __name__ == "__main__":
    main()
