"""Who records the streams that were taken from an archiver."""

from archiver.kafka.new_owners import owners_of
from g3stream.contract.program_status import ArchiverStatus


def report(instance: str, *streams: str) -> ArchiverStatus:
    return ArchiverStatus(
        host=f"host-{instance}",
        version="1",
        time_ms=1,
        started_ms=0,
        group="g",
        instance=instance,
        data_dir="/data",
        streams=streams,
    )


def test_each_new_owner_has_its_streams() -> None:
    reports = [report("own", "s"), report("b", "t", "s", "other"), report("c", "u"), report("d")]
    assert owners_of(["u", "s", "t", "v"], reports, "own") == {"b (host-b)": ["s", "t"], "c (host-c)": ["u"]}
