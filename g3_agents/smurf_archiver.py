"""SmurfArchiver: the agent that writes any number of streams from Kafka to files."""

import argparse
from typing import Any

from g3_agents.options import agent_options, archiver_options, kafka_options
from g3_agents.runner import AgentOperations, parse, run
from g3_agents.services import ArchiverService, Recorder
from g3stream.service.arguments import stream_flag


class SmurfArchiver(AgentOperations):
    """Archiver of the G3 data streams in Kafka.

    Parameters
    ----------
    agent : OCSAgent
        OCSAgent object which forms this Agent
    recorder : g3_agents.bridge_process.Link
        The archiver, in the process that started this one
    """

    def start_archive(self, session: Any, params: Any = None) -> Any:  # noqa: ARG002 - OCS gives it
        """start_archive()

        **Process** - Write the streams to files. With ``--auto-start`` it starts with the Agent, even if the crossbar
        server can't be reached. After a restart it continues with the same files.

        Notes
        -----
        The session is degraded while ``problems`` isn't empty. The data, updated each second, are those of
        SmurfRecorder's ``record`` about the files, for each stream::

            >>> response.session['data']
            {'timestamp': 1753651835.2,
             'state': 'recording',      # a file is open; or waiting, stopping, stopped
             'problems': [],
             'streams': {'crate1slot2': {'file': {'path': '17536/crate1slot2/2025-07-27-21-30-00_000.g3',
                                                  'since': 1753651800.1,
                                                  'bytes': 70202113,
                                                  'durable_bytes': 69802113,
                                                  'frames': 350,
                                                  'closing': None},
                                         'lag_records': 1,
                                         'lag_seconds': 0.1,
                                         'losses': 0,
                                         'lost_records': 0,
                                         'duplicates': 0,
                                         'two_ingests': 0}},
             'warnings': [],            # of --on-file, say: 'on-file: 3 events waiting, …'
             'suprsync': {'finalized_until': 1753651800.1,  # with --suprsync-db only
                          'held_by': 'crate1slot2: its file is open',
                          'num_files': 12,
                          'last_file_added': '/data/17536/crate1slot2/2025-07-27-21-10-00_001.g3'},
             'finished': 12,
             'last_files': [],          # as SmurfRecorder's
             'last_errors': []}
        """
        return self.recorder.follow(session)

    def _stop_archive(self, session: Any, params: Any = None) -> Any:  # noqa: ARG002
        """Stop the archive process: what was written is made durable; open files stay open for the next start."""
        return self.recorder.stop(session)


def make_parser(parser: argparse.ArgumentParser | None = None) -> argparse.ArgumentParser:
    """Build the argument parser for the Agent. Allows sphinx to automatically build documentation based on this
    function."""
    parser = parser or argparse.ArgumentParser()
    options = agent_options(parser, "writing")
    text = "The streams to write; by default every stream, new ones as they appear."
    options.add_argument("--stream-id", type=stream_flag, nargs="+", default=[], help=text)
    archiver_options(parser)
    kafka_options(parser)
    return parser


def main(args: list[str] | None = None) -> None:
    """Run the Agent. args: the command line without the program's name."""
    options = parse("SmurfArchiver", make_parser(), args)
    streams = options.stream_id or None
    run(options, "archive", lambda on_event: Recorder(None, ArchiverService(options, streams, on_event)))


if __name__ == "__main__":
    main()
