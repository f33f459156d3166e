"""`archiver tail`: what it needs."""

import pytest

from archiver.commands import tail


def test_without_spt3g_only_the_dump_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tail, "find_spec", lambda _: None)
    options = tail.make_parser().parse_args(["crate1slot2"])
    options.check(options)
    options = tail.make_parser().parse_args(["crate1slot2", "--dump"])
    with pytest.raises(SystemExit, match="2"):
        options.check(options)
    assert "extra [spt3g]" in capsys.readouterr().err
