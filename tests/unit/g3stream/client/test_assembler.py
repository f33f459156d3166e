"""Whole records from messages, and the positions between them."""

from hypothesis import assume, given
from hypothesis import strategies as st

from g3stream.client.assembler import Assembler, Record
from g3stream.client.position import Position
from g3stream.contract.headers import Kind, RecordHeaders
from g3stream.contract.sequence import Loss, LossCause
from tests.unit.g3stream.contract.test_sequence import (
    A,
    Killed,
    Message,
    chunks,
    killed_ingests,
    record,
    some_messages,
)

START = Position("s", 0)


def assembled(position: Position, log: list[Message], *, losses: bool = True) -> list[tuple[Record | Loss, Position]]:
    """Return the items of a topic's log from a position on, each with the position after it."""
    assembler = Assembler(position, facts=True, losses=losses)
    found = []
    for offset in range(position.offset, len(log)):
        for item in assembler.add(log[offset].headers, log[offset].time, log[offset].value, offset):
            found.append((item, Position.parse(str(assembler.position))))
    return found


def of_one_spool(messages: list[Message]) -> list[Message]:
    """Return the messages with epochs that have the same mark, and the same order."""

    def marked(headers: RecordHeaders) -> RecordHeaders:
        prev = headers.prev and (f"{int(headers.prev[0], 16) << 20:016x}", headers.prev[1])
        return headers._replace(epoch=f"{int(headers.epoch, 16) << 20:016x}", prev=prev)

    return [it._replace(headers=marked(it.headers)) for it in messages]


@given(some_messages.flatmap(killed_ingests))
def test_each_record_comes_once_in_order_and_whole(killed: Killed) -> None:
    found = [item for item, _ in assembled(START, killed.log)]
    assert [(it.headers.epoch, it.headers.seq, it.value) for it in found if isinstance(it, Record)] == [
        (it.headers.epoch, it.headers.seq, it.value) for it in killed.records
    ]


@given(some_messages.flatmap(killed_ingests), st.data())
def test_from_the_position_after_any_record_exactly_the_rest_comes(killed: Killed, data: st.DataObject) -> None:
    whole = [(it, at) for it, at in assembled(START, killed.log) if isinstance(it, Record)]
    assume(whole)
    k = data.draw(st.integers(0, len(whole) - 1))
    rest = [it for it, _ in assembled(whole[k][1], killed.log) if isinstance(it, Record)]
    assert rest == [it for it, _ in whole[k + 1 :]]


@given(some_messages.flatmap(killed_ingests), st.data())
def test_from_any_offset_nothing_comes_twice_or_out_of_order(killed: Killed, data: st.DataObject) -> None:
    """What a killed ingest repeats may have come first before that offset."""
    log, records = map(of_one_spool, (killed.log, killed.records))
    start = data.draw(st.integers(0, len(log)))
    found = [it for it, _ in assembled(Position("s", start), log) if isinstance(it, Record)]
    order = [(it.headers.epoch, it.headers.seq) for it in records]
    at = [order.index((it.headers.epoch, it.headers.seq)) for it in found]
    assert at == sorted(set(at))


def test_a_loss_comes_before_the_record_that_reveals_it_and_again_from_the_position_between() -> None:
    log = [Message(record(A, seq), 0, b"x") for seq in (0, 1, 5, 6)]
    found = assembled(START, log)
    loss = Loss(3, f"{A}:2 to {A}:4", LossCause.MISSING)
    assert [it if isinstance(it, Loss) else it.offset for it, _ in found] == [0, 1, loss, 2, 3]
    again = assembled(found[2][1], log)
    assert [it if isinstance(it, Loss) else it.offset for it, _ in again] == [loss, 2, 3]
    assert all(isinstance(it, Record) for it, _ in assembled(START, log, losses=False))


def test_an_incomplete_record_is_a_loss_and_the_position_before_its_end_is_at_its_first_chunk() -> None:
    whole = chunks(Message(record(A, 1), 0, b"abcdef"), 3)
    log = [Message(record(A, 0), 0, b"x"), *whole[:2]]
    assembler = Assembler(START, facts=False, losses=True)
    for offset, it in enumerate(log):
        list(assembler.add(it.headers, it.time, it.value, offset))
    assert assembler.position.offset == 1
    later = Message(record(A, 2), 0, b"y")
    found = list(assembler.add(later.headers, 0, later.value, 3))
    assert isinstance(found[0], Loss)
    assert found[0].cause is LossCause.INCOMPLETE
    assert isinstance(found[1], Record)
    assert found[1].value == b"y"


def test_facts_are_given_on_request_only() -> None:
    log = [Message(record(A, seq, kind=kind, type=None), 0, b"") for seq, kind in enumerate(Kind)]
    assert [it.headers.kind for it, _ in assembled(START, log) if isinstance(it, Record)] == [*Kind]
    assembler = Assembler(START, facts=False, losses=True)
    kinds = [it for at, m in enumerate(log) for it in assembler.add(m.headers, m.time, m.value, at)]
    assert [it.headers.kind for it in kinds if isinstance(it, Record)] == [Kind.FRAME]
