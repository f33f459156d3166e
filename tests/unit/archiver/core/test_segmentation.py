"""The segmentation table, row by row: where files begin and end, their names, and the frames at their heads."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.core.paths import NameFormat
from archiver.core.segmentation import (
    CloseReason,
    Settings,
    State,
    after_close,
    close_reason,
    head_types,
    path,
    step,
)
from archiver.core.used_names import SESSIONS_REMEMBERED, Names, number_of_session, with_name_taken
from g3stream.contract.headers import Kind, RecordHeaders
from g3stream.frame_format.layout import FRAME_TYPES
from tests.unit.archiver.core.test_segmentation_properties import NOON, STREAM, MemoryArchive
from tests.unit.g3stream.contract.test_sequence import A, Message

SCAN, OBSERVATION, WIRING = (FRAME_TYPES[name] for name in ("Scan", "Observation", "Wiring"))
OBSERVATION_AND_WIRING = Settings(carry=(OBSERVATION, WIRING))
AT_NOON = "15463/crate1slot2/2019-01-01-12-00-00"


class Story:
    """Records one after the other. Times in s after NOON; `value` of a frame: what it is called in `contents`."""

    def __init__(self, chosen: Settings | None = None) -> None:
        self.settings = chosen or Settings()
        self.archive = MemoryArchive()
        self._seq = 0

    def frame(self, at: float, value: str = "s", *, frame_type: int = SCAN, stream_id: str | None = None) -> "Story":
        return self.take(RecordHeaders(Kind.FRAME, A, self._seq, frame_type, stream_id), at, value)

    def of(self, session: int | None, at: float, num: int | None, value: str, frame_type: int = SCAN) -> "Story":
        """A frame of a session, with that frame_num."""
        return self.take(RecordHeaders(Kind.FRAME, A, self._seq, frame_type, None, session, num), at, value)

    def resent(self, at: float, session: int, *frames: tuple[int, str, int]) -> "Story":
        """A connection is made again, on which the sender begins with its latest metadata: frame_num, value, type."""
        self.fact(Kind.LOST, at).fact(Kind.CONNECTED, at)
        for num, value, frame_type in frames:
            self.of(session, at, num, value, frame_type)
        return self

    def numbered(self, at: float, *nums: int | None, session: int | None = 1) -> "Story":
        """Frames with these frame_nums, one after the other."""
        for num in nums:
            self.take(RecordHeaders(Kind.FRAME, A, self._seq, SCAN, None, session, num), at, "s")
        return self

    def start(self, at: float, stream_id: str | None = None) -> "Story":
        return self.take(RecordHeaders(Kind.START, A, self._seq, FRAME_TYPES["none"], stream_id), at, "START")

    def end(self, at: float) -> "Story":
        return self.take(RecordHeaders(Kind.END, A, self._seq, FRAME_TYPES["none"]), at, "END")

    def fact(self, kind: Kind, at: float) -> "Story":
        return self.take(RecordHeaders(kind, A, self._seq), at, "")

    def take(self, headers: RecordHeaders, at: float, value: str) -> "Story":
        self.archive.take(Message(headers, NOON + round(at * 1000), value.encode()), self._seq, self.settings)
        self._seq += 1
        return self

    @property
    def contents(self) -> list[str]:
        """Of each file: its head in brackets, and its frames."""
        return [
            " ".join([*(f"[{v.decode()}]" for v in file.head), *(v.decode() for _, v in file.frames)])
            for file in self.archive.all_files()
        ]

    @property
    def names(self) -> list[str]:
        return [file.path for file in self.archive.all_files()]

    @property
    def why(self) -> list[CloseReason | None]:
        """Why each was closed; None: it is open."""
        return [file.why for file in self.archive.all_files()]


# Each row


def test_start_closes_and_the_next_frame_begins_an_acquisition() -> None:
    story = Story().frame(0, "a").start(1).frame(2, "b")
    assert story.contents == ["a", "b"]
    assert story.why == [CloseReason.START, None]
    assert story.names == [f"{AT_NOON}_000.g3", "15463/crate1slot2/2019-01-01-12-00-02_000.g3"]


def test_start_alone_opens_nothing() -> None:
    assert Story().start(0).start(1).contents == []


def test_end_closes() -> None:
    story = Story().start(0).frame(1, "a").end(2).frame(3, "b")
    assert story.contents == ["a", "b"]
    assert story.why == [CloseReason.END, None]


@pytest.mark.parametrize("kind", [Kind.CONNECTED, Kind.LOST])
def test_a_connection_made_or_lost_closes(kind: Kind) -> None:
    story = Story().frame(0, "a").fact(kind, 1).frame(2, "b")
    assert story.contents == ["a", "b"]
    assert story.why == [CloseReason.LOST, None]
    assert story.names[1] == "15463/crate1slot2/2019-01-01-12-00-02_000.g3"


@pytest.mark.parametrize(
    ("at", "why"), [(10, None), (10.001, CloseReason.GAP), (-10, None), (-10.001, CloseReason.GAP)]
)
def test_quiet_closes_once_more_than_the_gap_is_over(at: float, why: CloseReason | None) -> None:
    story = Story().frame(0, "a").fact(Kind.QUIET, at)
    assert story.why == [why]


def test_after_a_quiet_gap_frames_begin_an_acquisition() -> None:
    """Even if the clock steps back meanwhile, to where no gap would be seen."""
    story = Story().frame(0, "a").fact(Kind.QUIET, 11).frame(1, "b")
    assert story.contents == ["a", "b"]
    assert story.names[1] == "15463/crate1slot2/2019-01-01-12-00-01_000.g3"


def test_quiet_is_no_frame() -> None:
    """It doesn't put off the gap."""
    story = Story().frame(0)
    for second in range(1, 11):
        assert story.fact(Kind.QUIET, second).why == [None]
    assert story.fact(Kind.QUIET, 10.5).why == [CloseReason.GAP]


@pytest.mark.parametrize("name", ["PipelineInfo", "EndProcessing"])
def test_frames_that_g3_makes_for_itself_do_nothing(name: str) -> None:
    assert Story().frame(0, frame_type=FRAME_TYPES[name]).contents == [], "they open no file"
    story = Story().frame(0, "a").frame(9, "x", frame_type=FRAME_TYPES[name], stream_id="other").frame(10.5, "b")
    assert story.contents == ["a", "b"], "they aren't recorded, nor put off the gap"
    assert story.names == [f"{AT_NOON}_000.g3", "15463/crate1slot2/2019-01-01-12-00-10_000.g3"]
    late = Story().frame(0, "a").frame(700, "x", frame_type=FRAME_TYPES[name])
    assert late.why == [None], "they close none"


@pytest.mark.parametrize(("at", "files"), [(10, 1), (10.001, 2), (-10, 1), (-10.001, 2)])
def test_a_frame_after_more_than_the_gap_begins_an_acquisition(at: float, files: int) -> None:
    story = Story().frame(0, "a").frame(at, "b")
    assert len(story.contents) == files
    assert story.why[0] == (CloseReason.GAP if files == 2 else None)


def test_a_frame_at_time_per_file_or_later_is_the_next_files_first() -> None:
    story = Story(Settings(time_per_file_ms=20_000))
    for at in (0, 9, 18, 19.999, 20, 29, 38, 39.999, 40.5):
        story.frame(at, str(at))
    assert story.contents == ["0 9 18 19.999", "20 29 38 39.999", "40.5"]
    assert story.why == [CloseReason.TIME, CloseReason.TIME, None]
    assert story.names == [f"{AT_NOON}_{n:03d}.g3" for n in range(3)], "it is the same acquisition's"


def test_a_gap_comes_before_time_per_file() -> None:
    story = Story(Settings(time_per_file_ms=20_000)).frame(0, "a").frame(9, "b").frame(25, "c")
    assert story.why == [CloseReason.GAP, None]
    assert story.names[1].endswith("2019-01-01-12-00-25_000.g3")


def test_a_clock_a_little_behind_keeps_the_file() -> None:
    story = Story(Settings(time_per_file_ms=20_000)).frame(0, "a").frame(-5, "b").frame(3, "c")
    assert story.contents == ["a b c"]


@pytest.mark.parametrize("kind", [Kind.START, Kind.END, Kind.CONNECTED, Kind.LOST, Kind.QUIET])
def test_between_acquisitions_nothing_is_closed(kind: Kind) -> None:
    headers = RecordHeaders(kind, A, 1, FRAME_TYPES["none"])
    state = State(STREAM, last_frame_ms=NOON)
    assert close_reason(state, headers, NOON + 100_000) is None
    assert step(state, headers, NOON + 100_000, Settings()) == (state, False)


def test_settings_are_the_acquisitions() -> None:
    story = Story(Settings(time_per_file_ms=20_000)).frame(0, "a")
    story.settings = Settings(time_per_file_ms=600_000, gap_ms=60_000, name_format=NameFormat.CTIME)
    story.frame(9, "b").frame(18, "c").frame(20, "d").frame(31, "e").frame(60, "f").frame(119, "g")
    assert story.contents == ["a b c", "d", "e f g"]
    assert story.names == [f"{AT_NOON}_000.g3", f"{AT_NOON}_001.g3", "15463/crate1slot2/1546344031_000.g3"]


# Suffixes


def test_an_acquisition_in_the_same_second_continues_with_the_next_suffix() -> None:
    story = Story().frame(0.1, "a").end(0.2).frame(0.3, "b").fact(Kind.LOST, 0.4).frame(0.9, "c").end(1).frame(1, "d")
    assert story.names == [
        *(f"{AT_NOON}_{n:03d}.g3" for n in range(3)),
        "15463/crate1slot2/2019-01-01-12-00-01_000.g3",
    ]


def test_the_same_second_under_another_id_takes_the_next_suffix_too() -> None:
    story = Story().frame(0, stream_id="x").end(0.1).frame(0.2, stream_id="y")
    assert [name.split("/", 1)[1] for name in story.names] == [
        "x/2019-01-01-12-00-00_000.g3",
        "y/2019-01-01-12-00-00_001.g3",
    ]


def test_after_a_clock_stepped_back_suffixes_are_above_all_used() -> None:
    story = Story(Settings(time_per_file_ms=5_000))
    for at in (100, 105, 110):  # 000 to 002
        story.frame(at)
    story.frame(50).frame(55)  # stepped back
    story.end(56).frame(55.5).end(57).frame(100)  # and into the second of the first
    story.end(101).frame(102)  # later than any
    assert [(name[-12:-7], name[-6:-3]) for name in story.names] == [
        ("01-40", "000"),
        ("01-40", "001"),
        ("01-40", "002"),
        ("00-50", "003"),
        ("00-50", "004"),
        ("00-55", "005"),
        ("01-40", "006"),
        ("01-42", "000"),
    ]


def test_suffixes_grow_past_999() -> None:
    story = Story(Settings(time_per_file_ms=1_000))
    for at in range(1_002):
        story.frame(at)
    assert [name.rsplit("_", 1)[1] for name in story.names[-3:]] == ["999.g3", "1000.g3", "1001.g3"]
    assert len(set(story.names)) == 1_002


def test_a_file_that_had_to_take_another_number_pushes_the_next_on() -> None:
    story = Story(Settings(time_per_file_ms=5_000))
    story.archive.disk = {f"{AT_NOON}_000.g3": b"not ours", f"{AT_NOON}_001.g3": b"not ours"}
    story.frame(0, "a").frame(5, "b").end(6).frame(0.5, "c")
    assert story.names == [f"{AT_NOON}_{n:03d}.g3" for n in (2, 3, 4)]
    assert story.archive.state.names == Names(NOON // 1000, NOON // 1000, 4, 4)


def test_a_number_that_a_file_had_to_take_counts_after_a_clock_stepped_back() -> None:
    story = Story()
    story.archive.disk = {f"{AT_NOON}_000.g3": b"not ours", f"{AT_NOON}_001.g3": b"not ours"}
    story.frame(0, "a").end(1).frame(-60, "b")
    assert story.names == [f"{AT_NOON}_002.g3", "15463/crate1slot2/2019-01-01-11-59-00_003.g3"]


# Names by session

BY_SESSION = Settings(name_format=NameFormat.SESSION)
S = NOON // 1000 - 3
"""A session that began 3 s before its first frame came."""
O0, W1 = (0, "O", OBSERVATION), (1, "W", WIRING)


def numbers(story: Story) -> list[str]:
    """The files' names without .g3, from the session on; those of S are only numbers."""
    return [name.rpartition("/")[2].removesuffix(".g3").removeprefix(f"{S}_") for name in story.names]


def test_a_sessions_files_are_under_its_id() -> None:
    story = Story(BY_SESSION).start(0).of(S, 0.1, 0, "O", OBSERVATION).of(S, 1, 1, "a")
    assert story.names == [f"15463/crate1slot2/{S}_000.g3"]
    assert story.archive.state.acquisition
    assert story.archive.state.acquisition.start_s == S


def test_a_sessions_files_are_numbered_on() -> None:
    """Through START sent again, reconnects, gaps, and rotation."""
    story = Story(Settings(time_per_file_ms=20_000, name_format=NameFormat.SESSION)).start(0)
    story.of(S, 0, 0, "a").start(1).of(S, 2, 1, "b").fact(Kind.LOST, 3).of(S, 4, 2, "c")
    story.of(S, 60, 3, "d").of(S, 65, 4, "e").of(S, 74, 5, "f").of(S, 81, 6, "g").end(82)
    assert numbers(story) == ["000", "001", "002", "003", "004"]
    assert story.contents == ["a", "b", "c", "d e f", "g"]
    assert story.why == [CloseReason.START, CloseReason.LOST, CloseReason.GAP, CloseReason.TIME, CloseReason.END]


def test_two_acquisitions_in_one_session_have_names_of_it() -> None:
    story = Story(BY_SESSION).start(0).of(S, 0, 0, "a").end(1).start(2).of(S, 3, 1, "b").end(4)
    assert numbers(story) == ["000", "001"]


def test_the_files_of_a_session_that_comes_back_are_numbered_on() -> None:
    """As when a crate's clock was set: whichever of the two is later."""
    for other in (S + 100, S - 100):
        story = Story(BY_SESSION).of(S, 0, 0, "a").end(1).of(other, 2, 0, "b").end(3).of(S, 4, 1, "c").end(5)
        story.of(other, 6, 1, "d").end(7)
        assert numbers(story) == ["000", f"{other}_000", "001", f"{other}_001"]


def test_a_session_that_is_forgotten_gets_numbers_above_all_others() -> None:
    story = Story(BY_SESSION)
    for n in range(SESSIONS_REMEMBERED + 1):
        story.of(S + n, n, 0, "a").end(n)
    story.of(S, 99, 1, "b").end(99).of(S + 99, 100, 0, "c")
    assert numbers(story)[-2:] == ["001", f"{S + 99}_000"]


def first_numbers(sessions: Sequence[int]) -> list[str]:
    """Of the first file of each of these sessions, which follow one another."""
    story = Story(BY_SESSION)
    for n, session in enumerate(sessions):
        story.of(session, n, 0, "a").end(n)
    return [name.rpartition("_")[2].removesuffix(".g3") for name in story.names]


HOUR, MONTH = 3600, 30 * 86400


@pytest.mark.parametrize(
    "ahead",
    [
        pytest.param([S + MONTH], id="ahead for one session"),
        pytest.param([S + MONTH + n * HOUR for n in range(10)], id="ahead for ten"),
        pytest.param([S - MONTH], id="behind for one"),
        pytest.param([S + MONTH, S - MONTH, S + 2 * MONTH], id="anything"),
        pytest.param([*range(S + MONTH, S + MONTH + 9), *range(S - MONTH, S - MONTH + 9)], id="ahead, then behind"),
    ],
)
def test_a_clock_that_was_wrong_for_a_while_makes_no_later_session_an_old_one(ahead: list[int]) -> None:
    """Readers take _000 as a session's first file; so a new session has it, whatever ids there were before it."""
    before, after = ([S + n * HOUR for n in range(*span)] for span in ((0, 20), (20, 90)))
    assert set(first_numbers([*before, *ahead, *after])) == {"000"}


@given(st.lists(st.integers(0, 30).map(lambda n: S + n * n * n)))
def test_no_name_is_used_twice_however_many_sessions_come_back(sessions: list[int]) -> None:
    story = Story(BY_SESSION)
    for n, session in enumerate(sessions):
        story.of(session, n, 0, "a").end(n)
    assert len(set(story.names)) == len(sessions)


def test_frames_without_a_session_are_named_by_their_time() -> None:
    story = Story(BY_SESSION).frame(0, "a").end(1).of(S, 2, 0, "b").end(3).frame(4, "c").frame(30, "d")
    noon = NOON // 1000
    assert numbers(story) == [f"{noon}_000", "000", f"{noon + 4}_000", f"{noon + 30}_000"]


def test_a_file_that_begins_without_a_session_continues_its_acquisitions() -> None:
    story = Story(Settings(time_per_file_ms=5_000, name_format=NameFormat.SESSION))
    story.of(S, 0, 0, "a").frame(5, "b").of(S, 6, 1, "c")
    assert numbers(story) == ["000", "001"]


@pytest.mark.parametrize("session", [-1, 0, 999_999_999, 10_000_000_000, 2**62])
def test_what_has_no_ten_digits_names_no_file(session: int) -> None:
    story = (
        Story(BY_SESSION).of(session, 0, 0, "O", OBSERVATION).of(session, 1, 1, "a").start(2).of(session, 3, 2, "b")
    )
    assert numbers(story) == [f"{NOON // 1000}_000", f"{NOON // 1000 + 3}_000"]
    assert story.contents == ["O a", "[O] b"]


def test_a_session_that_changes_in_mid_file_names_the_next_one() -> None:
    story = Story(Settings(time_per_file_ms=5_000, name_format=NameFormat.SESSION))
    story.of(S, 0, 0, "a").of(S + 2, 2, 0, "b").of(S + 2, 6, 1, "c")
    assert numbers(story) == ["000", f"{S + 2}_000"]
    assert story.contents == ["a b", "c"]


def test_what_is_sent_again_after_the_end_opens_no_file() -> None:
    story = Story(BY_SESSION).start(0).of(S, 0, *O0).of(S, 0, *W1).of(S, 1, 2, "a").end(2)
    before = story.archive.state
    story.resent(60, S, O0, W1)
    story.resent(120, S, O0, W1).end(121)
    assert story.contents == ["O W a"]
    assert story.archive.state == before, "nothing is remembered of it"


def test_what_is_sent_again_in_a_session_opens_no_file() -> None:
    """Its frames head the next file, as they are carried."""
    story = Story(BY_SESSION).start(0).of(S, 0, *O0).of(S, 0, *W1).of(S, 1, 2, "a")
    story.resent(2, S, O0, W1).of(S, 3, 4, "c")
    assert story.contents == ["O W a", "[O] c"]
    assert numbers(story) == ["000", "001"]
    assert story.archive.state.file
    assert story.archive.state.file.missing == 1


def test_what_is_sent_again_and_is_new_is_recorded() -> None:
    """As the end of a session that came while there was no connection."""
    story = Story(BY_SESSION).start(0).of(S, 0, *O0).of(S, 0, *W1).of(S, 1, 2, "a")
    story.resent(9, S, (4, "O end", OBSERVATION), (3, "W end", WIRING)).end(10)
    assert story.contents == ["O W a", "O end W end"]


def test_what_is_sent_again_while_a_file_is_open_is_recorded() -> None:
    story = Story(BY_SESSION).of(S, 0, *O0).of(S, 1, 1, "a").of(S, 2, *O0)
    assert story.contents == ["O a O"]


def test_what_is_sent_again_of_another_session_is_left_out() -> None:
    """The next session began with an Observation; its Wiring hasn't come yet, so the sender has the last one's."""
    story = Story(BY_SESSION).of(S, 0, *O0).of(S, 0, *W1).end(1)
    story.resent(2, S + 2, (0, "O2", OBSERVATION)).of(S, 2, *W1).of(S + 2, 3, 1, "W2", WIRING)
    assert story.contents == ["O W", "O2 W2"]


def test_data_is_never_left_out() -> None:
    """Whatever its numbers are: as when a streamer is started again within a second."""
    story = Story(BY_SESSION).of(S, 0, 5, "a").end(1).of(S, 2, 0, "b").of(S, 3, 1, "c").end(4)
    assert story.contents == ["a", "b c"]


def test_frames_head_files_of_their_session_only() -> None:
    """Though the first has no END, which forgets the carry."""
    by_session = Settings(carry=(OBSERVATION, WIRING), name_format=NameFormat.SESSION)
    story = Story(by_session).start(0).of(S, 0, *O0).of(S, 0, *W1).of(S, 1, 2, "a")
    story.start(2).of(S + 2, 2, 0, "O2", OBSERVATION).of(S + 2, 3, 1, "b").start(4).of(S + 2, 5, 2, "c")
    assert story.contents == ["O W a", "O2 b", "[O2] c"]


def test_nothing_heads_a_file_of_a_session_that_begins_with_metadata() -> None:
    """sotodlib would take it for an early file of the session, and look for its END in another."""
    by_session = Settings(time_per_file_ms=2_000, carry=(OBSERVATION, WIRING), name_format=NameFormat.SESSION)
    story = Story(by_session).start(0).of(S, 0, *O0).of(S, 0, *W1).of(S, 1, 2, "a").of(S, 2, 3, "b")
    story.of(S, 4, 4, "W2", WIRING).of(S, 4, 5, "O2", OBSERVATION).end(4)
    assert story.contents == ["O W a", "[O] [W] b", "W2 O2"]


def test_frames_without_a_frame_num_are_of_their_session_too() -> None:
    """They are carried; whether they are sent again, nobody can say."""
    story = Story(BY_SESSION).of(S, 0, None, "O", OBSERVATION).of(S, 1, None, "a").start(2).of(S, 3, None, "b")
    story.start(4).of(S + 5, 5, None, "c").of(S + 5, 6, 7, "d").of(S + 5, 7, 9, "e")
    assert story.contents == ["O a", "[O] b", "c d e"]
    assert story.archive.state.file
    assert story.archive.state.file.missing == 1, "before the first frame_num of a session none is"
    story.settings = Settings()
    story.of(S + 8, 8, None, "f").end(9).of(S + 8, 10, 5, "g")
    assert story.archive.state.file.missing == 0


def test_a_change_to_names_by_session_takes_effect_with_the_next_acquisition() -> None:
    story = Story(Settings(time_per_file_ms=5_000)).of(S, 0, *O0).of(S, 1, 1, "a")
    story.settings = BY_SESSION
    story.of(S, 5, 2, "b").start(6).of(S, 7, 3, "c").end(8).resent(9, S, O0)
    assert story.names == [f"{AT_NOON}_000.g3", f"{AT_NOON}_001.g3", f"15463/crate1slot2/{S}_000.g3"]
    assert story.contents == ["O a", "[O] b", "[O] c"]


def test_a_change_from_names_by_session_uses_none_again() -> None:
    story = Story(BY_SESSION).of(S, 0, 0, "a").start(1)
    story.settings = Settings(name_format=NameFormat.CTIME)
    story.frame(-3, "b").start(0).frame(1, "c")
    assert numbers(story) == ["000", "001", f"{NOON // 1000 + 1}_000"]


# Ids


@pytest.mark.parametrize(
    ("of_frame", "of_start", "name"), [("f", "s", "f"), (None, "s", "s"), ("f", None, "f"), (None, None, STREAM)]
)
def test_the_id_is_the_frames_else_the_starts_else_the_streams_name(
    of_frame: str | None, of_start: str | None, name: str
) -> None:
    story = Story().start(0, of_start).frame(1, stream_id=of_frame)
    assert story.names == [f"15463/{name}/2019-01-01-12-00-01_000.g3"]


def test_the_starts_id_lasts_until_end_or_another_connection() -> None:
    story = Story().start(0, "s").frame(1).frame(20).fact(Kind.QUIET, 40).frame(41)
    assert [name.split("/")[1] for name in story.names] == ["s", "s", "s"], "over gaps"
    assert story.archive.state.start_id == "s"
    for over in (Kind.END, Kind.CONNECTED, Kind.LOST):
        again = Story().start(0, "s").frame(1).fact(over, 2).frame(3)
        assert again.names[1] == f"15463/{STREAM}/2019-01-01-12-00-03_000.g3"
    assert Story().start(0, "s").start(1).frame(2).names[0].split("/")[1] == STREAM, "the last START's"


def test_an_id_that_changes_stays_in_the_file_and_is_counted() -> None:
    story = Story(Settings(time_per_file_ms=5_000))
    story.frame(0, "a", stream_id="x").frame(1, "b", stream_id="y").frame(2, "c").frame(3, "d", stream_id="x").frame(
        5, "e", stream_id="y"
    )
    assert story.contents == ["a b c d", "e"]
    assert {name.split("/")[1] for name in story.names} == {"x"}
    assert story.archive.state.acquisition
    assert story.archive.state.acquisition.other_ids == 2
    story.end(6).frame(7, stream_id="y")
    assert story.archive.state.acquisition
    assert (story.archive.state.acquisition.id, story.archive.state.acquisition.other_ids) == ("y", 0)


# Carry


def test_the_last_observation_heads_every_following_file() -> None:
    story = Story(Settings(time_per_file_ms=5_000))
    story.frame(0, "O1", frame_type=OBSERVATION).frame(1, "a").frame(2, "O2", frame_type=OBSERVATION)
    story.frame(5, "b").frame(10, "c")
    assert story.contents == ["O1 a O2", "[O2] b", "[O2] c"]


def test_nothing_heads_a_file_that_begins_with_its_type() -> None:
    story = Story(Settings(time_per_file_ms=5_000))
    story.frame(0, "O1", frame_type=OBSERVATION).frame(5, "O2", frame_type=OBSERVATION).frame(6, "a").frame(10, "b")
    assert story.contents == ["O1", "O2 a", "[O2] b"]


def test_end_forgets_the_carry() -> None:
    assert Story().frame(0, "O", frame_type=OBSERVATION).end(1).frame(2, "a").contents == ["O", "a"]


@pytest.mark.parametrize("kind", [Kind.START, Kind.LOST, Kind.CONNECTED])
def test_the_carry_outlives_a_start_and_a_connection(kind: Kind) -> None:
    assert Story().frame(0, "O", frame_type=OBSERVATION).fact(kind, 1).frame(2, "a").contents == ["O", "[O] a"]


def test_the_carry_outlives_a_gap() -> None:
    assert Story().frame(0, "O", frame_type=OBSERVATION).frame(60, "a").contents == ["O", "[O] a"]


def test_several_types_head_a_file_in_order_of_last_arrival() -> None:
    story = Story(OBSERVATION_AND_WIRING)
    story.frame(0, "O1", frame_type=OBSERVATION).frame(1, "W1", frame_type=WIRING).frame(
        2, "O2", frame_type=OBSERVATION
    )
    story.start(3).frame(4, "a").start(5).frame(6, "W2", frame_type=WIRING).start(7).frame(8, "b")
    assert story.contents == ["O1 W1 O2", "[W1] [O2] a", "[O2] W2", "[O2] [W2] b"]


def test_only_the_acquisitions_types_head_its_files() -> None:
    story = Story(OBSERVATION_AND_WIRING)
    story.frame(0, "W", frame_type=WIRING).frame(1, "O", frame_type=OBSERVATION)
    story.settings = Settings()
    story.start(2).frame(3, "a")
    assert story.contents == ["W O", "[O] a"]


def test_types_no_longer_carried_are_forgotten() -> None:
    """Else the state grows with every change of --carry, and with it what is committed."""
    story = Story(OBSERVATION_AND_WIRING)
    story.frame(0, "W", frame_type=WIRING).frame(1, "O", frame_type=OBSERVATION)
    story.settings = Settings()
    story.start(2).frame(3, "O2", frame_type=OBSERVATION)
    assert story.archive.state.carry == (OBSERVATION,)


def test_a_type_that_the_wire_doesnt_name_can_be_carried() -> None:
    story = Story(Settings(carry=(2**32 - 1,))).frame(0, "?", frame_type=2**32 - 1).frame(60, "a")
    assert story.contents == ["?", "[?] a"]


# Clocks


def test_directory_and_name_stay_the_acquisitions_over_midnight_and_the_five_digits() -> None:
    story = Story(Settings(time_per_file_ms=600_000))
    # 15463 becomes 15464 at 56,000 s after noon, midnight comes at 43,200 s.
    for at in range(43_000, 57_000, 10):
        story.frame(at)
    assert {name.rsplit("_", 1)[0] for name in story.names} == {"15463/crate1slot2/2019-01-01-23-56-40"}
    assert len(story.names) == 24


@pytest.mark.parametrize(
    ("time", "name"),
    [
        (-1, "00000/crate1slot2/1970-01-01-00-00-00_000.g3"),
        (-(2**60), "00000/crate1slot2/1970-01-01-00-00-00_000.g3"),
        (9_999_999_999_999, "99999/crate1slot2/2286-11-20-17-46-39_000.g3"),
        (2**60, "99999/crate1slot2/2286-11-20-17-46-39_000.g3"),
    ],
)
def test_times_that_the_layout_cannot_name_get_the_nearest_that_it_can(time: int, name: str) -> None:
    headers = RecordHeaders(Kind.FRAME, A, 0, SCAN)
    state, is_written = step(State(STREAM), headers, time, Settings())
    assert is_written
    assert path(state) == name
    state, _ = step(after_close(state, 0), RecordHeaders(Kind.END, A, 1, FRAME_TYPES["none"]), time, Settings())
    again, _ = step(state, headers, time, Settings())
    assert path(again) == name.replace("_000", "_001"), "a second acquisition there gets a name of its own"


def test_head_names_types_in_the_states_order() -> None:
    state, _ = step(State(STREAM), RecordHeaders(Kind.FRAME, A, 0, WIRING), NOON, OBSERVATION_AND_WIRING)
    state, _ = step(state, RecordHeaders(Kind.FRAME, A, 1, OBSERVATION), NOON, OBSERVATION_AND_WIRING)
    assert head_types(state, SCAN) == (WIRING, OBSERVATION)
    assert head_types(state, WIRING) == (OBSERVATION,)
    assert head_types(state, None) == (WIRING, OBSERVATION)


# What is missing by frame_num


def missing(story: Story) -> int:
    """Of the file that is open."""
    file = story.archive.state.file
    assert file
    return file.missing


MISSING = [
    pytest.param([(1, 5), (1, 6), (1, 7)], 0, id="one after the other"),
    pytest.param([(1, 5), (1, 9)], 3, id="a gap"),
    pytest.param([(1, 5), (1, 7), (1, 8), (1, 10)], 2, id="two gaps"),
    pytest.param([(1, 1000)], 0, id="a session that we joined late"),
    pytest.param([(1, 5), (1, 3), (1, 4), (1, 5), (1, 6)], 0, id="old frames sent again"),
    pytest.param([(1, 5), (1, 2), (1, 7)], 1, id="old frames sent again, and a gap"),
    pytest.param([(1, 5), (2, 0), (2, 1)], 0, id="a new session"),
    pytest.param([(1, 5), (2, 3), (2, 5)], 1, id="what came before a session's first frame is not ours to miss"),
    pytest.param([(2, 5), (1, 90), (2, 6)], 0, id="an older session's frame, sent again"),
    pytest.param([(1, 5), (None, 9), (1, None), (None, None), (1, 6)], 0, id="frames without numbers"),
    pytest.param([(1, -5), (1, -3)], 1, id="negative numbers"),
    pytest.param(
        [(-(2**63), 1 - 2**63), (-(2**63), 2**63 - 1)], 2**63 - 1, id="the largest gap, as far as it counts"
    ),
]


@pytest.mark.parametrize(("frames", "count"), MISSING)
def test_frames_that_were_never_received_are_counted(frames: list[tuple[int | None, int | None]], count: int) -> None:
    story = Story()
    for session, num in frames:
        story.numbered(0, num, session=session)
    assert missing(story) == count


def test_what_is_missing_between_two_files_is_the_later_ones() -> None:
    story = Story(Settings(time_per_file_ms=20_000)).numbered(0, 1, 3).numbered(9, 4)
    assert missing(story) == 1
    story.numbered(18, 5).numbered(25, 8)
    assert story.why == [CloseReason.TIME, None]
    assert missing(story) == 2


def test_what_is_missing_is_counted_over_acquisitions_and_lost_connections() -> None:
    """A session continues while nothing is recorded: what it sent meanwhile was never received."""
    story = Story().numbered(0, 1, 2).end(1).start(2).numbered(3, 6)
    assert missing(story) == 3
    story.fact(Kind.LOST, 4).fact(Kind.CONNECTED, 5).numbered(6, 7, 9)
    assert missing(story) == 1


def test_frames_that_arent_recorded_say_nothing_of_what_is_missing() -> None:
    story = Story().numbered(0, 1)
    story.take(RecordHeaders(Kind.FRAME, A, 1, FRAME_TYPES["PipelineInfo"], None, 1, 50), 0, "x")
    assert missing(story.numbered(0, 2)) == 0


def test_numbers_decide_no_boundary() -> None:
    with_them = Story(Settings(time_per_file_ms=20_000))
    without = Story(Settings(time_per_file_ms=20_000))
    for at in range(0, 60, 9):
        with_them.numbered(at, at * 7, session=at)
        without.frame(at)
    assert with_them.names == without.names
    assert with_them.why == without.why


# Salvaged files


def test_a_salvaged_files_name_is_used() -> None:
    names = with_name_taken(Names(), S, 3, in_digits=True)
    assert (number_of_session(names, S), number_of_session(names, S + 1)) == (4, 0)
    assert with_name_taken(names, S, 1, in_digits=True) == names, "a lower number changes nothing"
    dated = with_name_taken(Names(S, S, 5, 5), S + 9, 7, in_digits=False)
    assert dated == Names(S + 9, S, 5, 7), "the acquisition that is open continues with its own number"
