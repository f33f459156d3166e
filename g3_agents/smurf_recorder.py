"""SmurfRecorder: records the stream of one SMuRF slot."""

import argparse
import logging
from pathlib import Path
from typing import Any

from archiver.archive.location import Location
from g3_agents.monitored.choice import DEFAULT_RATE_HZ, ChoiceError, target_rate_hz
from g3_agents.monitored.service import MonitoredChannels
from g3_agents.options import agent_options, archiver_options, ingest_options, kafka_options
from g3_agents.runner import AgentOperations, parse, run
from g3_agents.services import ArchiverService, IngestService, Recorder

log = logging.getLogger(__name__)


class SmurfRecorder(AgentOperations):
    """Recorder for G3 data streams sent over a G3NetworkSender.

    Parameters
    ----------
    agent : OCSAgent
        OCSAgent object which forms this Agent
    recorder : g3_agents.bridge_process.Link
        The recorder, in the process that started this one

    Attributes
    ----------
    agent : OCSAgent
        OCSAgent object which forms this Agent
    recorder : g3_agents.bridge_process.Link
        The recorder, in the process that started this one
    """

    def start_record(self, session: Any, params: Any = None) -> Any:  # noqa: ARG002 - OCS gives it
        """start_record()

        **Process** - Record the stream. With ``--auto-start`` it starts with the Agent, even if the crossbar server
        can't be reached.

        Notes
        -----
        The session is degraded while ``problems`` isn't empty. The data, updated each second, look like this (times
        in s since the epoch, UTC; counts since the process was started)::

            >>> response.session['data']
            {'timestamp': 1753651835.2,
             'stream': 'crate1slot2',
             'state': 'recording',      # or receiving, connected, not connected, stopping, stopped
             'problems': [],            # else in words: 'no connection to smurf-stream-sim:50000', …
             'connection': {'source': 'smurf-stream-sim:50000',
                            'peer': '10.0.0.12:50000',      # None: not connected
                            'since': 1753651800.0,          # of either
                            'connections': 1,
                            'lost_why': None},              # why the last one was closed
             'frames': 351,             # received
             'bytes': 70402113,
             'frames_per_second': 10.0, # over the last 10 s
             'bytes_per_second': 2003410.5,
             'last_frame': 1753651835.1,
             'rejected': 0,             # frames with a bad CRC, or unreadable
             'bad_ids': 0,              # frames with a sostream_id that is no valid stream name
             'spool': {'bytes': 0,      # received, and not in Kafka yet
                       'full': False,
                       'stalls': 0,     # how often reading had to wait for it
                       'unreadable': 0},
             'file': {'path': '17536/crate1slot2/2025-07-27-21-30-00_000.g3',   # below the data dir; None: none open
                      'since': 1753651800.1,
                      'bytes': 70202113,
                      'durable_bytes': 69802113,
                      'frames': 350,
                      'closing': None}, # or why it is being finished
             'lag_records': 1,          # in Kafka, and not in a file yet
             'lag_seconds': 0.1,
             'losses': 0,               # how often records were lost
             'lost_records': 0,         # how many, as far as is known
             'duplicates': 0,           # records that were received again, and dropped
             'two_ingests': 0,          # how often records of two ingests for this stream alternated
             'warnings': [],            # of --on-file, say: 'on-file: 3 events waiting, …'
             'suprsync': {'finalized_until': 1753651800.1,  # with --suprsync-db only
                          'held_by': 'crate1slot2: its file is open',
                          'num_files': 12,
                          'last_file_added': '/data/17536/crate1slot2/2025-07-27-21-10-00_001.g3'},
             'monitored': {'channels': [12, 345],           # of set_monitored_channels
                           'target_rate': 10.0,
                           'averages': 350,     # of each channel, since their process was started
                           'last_time': 1753651834.95,      # of the last one
                           'unknown': ['r0345'],            # chosen, but not in the last frame
                           'skips': 0,          # how often they fell behind, and skipped to the newest data
                           'undecodable': 0,    # frames
                           'problem': None},    # why nothing is published, in words; recording doesn't depend on it
             'finished': 12,            # files, since the Agent's start
             'last_files': [{'timestamp': 1753651799.9,
                             'stream': 'crate1slot2',
                             'path': '17536/crate1slot2/2025-07-27-21-10-00_001.g3',
                             'frames': 6000,
                             'bytes': 1203432123,
                             'why': 'end',
                             'sha256': '9f86d081884c…',
                             'missing': 0}],                # frames, as jumps of frame_num say
             'last_errors': [[1753648023.123, 'warning', 'crate1slot2: connection closed: …']]}
        """
        return self.recorder.follow(session)

    def _stop_record(self, session: Any, params: Any = None) -> Any:  # noqa: ARG002
        """Stop the record process: the connection is closed, and the open file finished."""
        return self.recorder.stop(session)

    def set_monitored_channels(self, session: Any, params: Any) -> Any:  # noqa: ARG002 - OCS gives it
        """set_monitored_channels(channels)

        **Task** - Choose the channels that are published, averaged, on the feed ``detectors``; an empty list ends it.
        Recording has no part in it. The choice is in ``session.data`` of ``record``, as ``monitored``. It is kept
        until the Agent is stopped.

        Parameters
        ----------
        channels : list of int
            Numbers of readout channels, at most 24: 12 is the channel ``r0012`` of the frames.
        """
        return self.recorder.monitor({"channels": params["channels"]})

    def set_target_rate(self, session: Any, params: Any) -> Any:  # noqa: ARG002 - OCS gives it
        """set_target_rate(target_rate)

        **Task** - Change the rate of the averages on the feed ``detectors``, until the Agent is stopped.

        Parameters
        ----------
        target_rate : float
            In Hz, from 0.01 to 100.
        """
        return self.recorder.monitor({"target_rate": params["target_rate"]})


def make_parser(parser: argparse.ArgumentParser | None = None) -> argparse.ArgumentParser:
    """Build the argument parser for the Agent. Allows sphinx to automatically build documentation based on this
    function."""
    parser = parser or argparse.ArgumentParser()
    options = agent_options(parser, "recording")
    text = "Averages per second, in Hz, of the channels that set_monitored_channels chooses for the feed detectors."
    options.add_argument("--target-rate", type=_target_rate, default=DEFAULT_RATE_HZ, metavar="HZ", help=text)
    text = "A Python that has so3g, which decodes these channels; the Agent's own if not given."
    options.add_argument("--so3g-python", metavar="PATH", help=text)
    ingest_options(parser, "in the private dir, if one is given, else in the data dir")
    archiver_options(parser)
    kafka_options(parser)
    return parser


def _target_rate(text: str) -> float:
    try:
        return target_rate_hz(text)
    except ChoiceError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def spool_of(options: argparse.Namespace) -> Path:
    """Return the directory of the spool.

    A spool from before there was a --private-dir may contain frames that Kafka doesn't have. So it is used where it
    is, until `archiver relocate` has moved it.
    """
    if options.spool_dir:
        found: Path = options.spool_dir
        return found
    before = Location(options.data_dir).spool_path
    if options.private_dir and (before / options.stream_id).exists():
        log.warning("the spool is %s until `archiver relocate` has moved it to the private dir", before)
        return before
    return Location(options.data_dir, options.private_dir).spool_path


def main(args: list[str] | None = None) -> None:
    """Run the Agent. args: the command line without the program's name."""
    options = parse("SmurfRecorder", make_parser(), args)
    options.stream_id = options.stream_id or options.instance_id
    ingest, streams = IngestService(options, spool_of(options)), [options.stream_id]
    monitored = MonitoredChannels(options, options.stream_id)
    run(options, "record", lambda on_event: Recorder(ingest, ArchiverService(options, streams, on_event), monitored))


if __name__ == "__main__":
    main()
