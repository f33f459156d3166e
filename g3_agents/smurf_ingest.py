"""SmurfIngest: the agent that reads a stream and publishes it to Kafka."""

import argparse
from typing import Any

from g3_agents.options import agent_options, ingest_options, kafka_options
from g3_agents.runner import AgentOperations, parse, run
from g3_agents.services import IngestService, Recorder
from ingest.__main__ import default_spool_dir


class SmurfIngest(AgentOperations):
    """Publisher of a G3 data stream, sent over a G3NetworkSender, to its Kafka topic.

    Parameters
    ----------
    agent : OCSAgent
        OCSAgent object which forms this Agent
    recorder : g3_agents.bridge_process.Link
        The ingest, in the process that started this one
    """

    def start_ingest(self, session: Any, params: Any = None) -> Any:  # noqa: ARG002 - OCS gives it
        """start_ingest()

        **Process** - Read the stream and publish it. With ``--auto-start`` it starts with the Agent, even if the
        crossbar server can't be reached.

        Notes
        -----
        The session is degraded while ``problems`` isn't empty. The data, updated each second, are those of
        SmurfRecorder's ``record`` about the connection and the spool::

            >>> response.session['data']
            {'timestamp': 1753651835.2,
             'stream': 'crate1slot2',
             'state': 'receiving',      # or connected, not connected, stopping, stopped
             'problems': [],
             'connection': {'source': 'smurf-stream-sim:50000',
                            'peer': '10.0.0.12:50000',
                            'since': 1753651800.0,
                            'connections': 1,
                            'lost_why': None},
             'frames': 351,
             'bytes': 70402113,
             'frames_per_second': 10.0,
             'bytes_per_second': 2003410.5,
             'last_frame': 1753651835.1,
             'rejected': 0,
             'bad_ids': 0,
             'spool': {'bytes': 0, 'full': False, 'stalls': 0, 'unreadable': 0},
             'last_errors': []}
        """
        return self.recorder.follow(session)

    def _stop_ingest(self, session: Any, params: Any = None) -> Any:  # noqa: ARG002
        """Stop the ingest process: the connection is closed, and what was read is published."""
        return self.recorder.stop(session)


def make_parser(parser: argparse.ArgumentParser | None = None) -> argparse.ArgumentParser:
    """Build the argument parser for the Agent. Allows sphinx to automatically build documentation based on this
    function."""
    parser = parser or argparse.ArgumentParser()
    agent_options(parser, "reading")
    ingest_options(parser, "below ~/.local/state (or $XDG_STATE_HOME)")
    kafka_options(parser)
    return parser


def main(args: list[str] | None = None) -> None:
    """Run the Agent. args: the command line without the program's name."""
    options = parse("SmurfIngest", make_parser(), args)
    options.stream_id = options.stream_id or options.instance_id
    ingest = IngestService(options, options.spool_dir or default_spool_dir())
    run(options, "ingest", lambda _: Recorder(ingest, None))


if __name__ == "__main__":
    main()
