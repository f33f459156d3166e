"""`archiver web`: its flags, and what it needs."""

import pytest

from archiver.commands import web
from g3stream.service.endpoint import ListenEndpoint


def test_it_is_for_this_host_only_unless_told_otherwise() -> None:
    assert web.make_parser().parse_args([]).http == ListenEndpoint("127.0.0.1", 8780)
    assert web.make_parser().parse_args(["--http", "80"]).http == ListenEndpoint("127.0.0.1", 80)
    assert web.make_parser().parse_args(["--http", "daq1:80"]).http == ListenEndpoint("daq1", 80)


def test_without_the_extra_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(web, "find_spec", lambda _: None)
    options = web.make_parser().parse_args([])
    with pytest.raises(SystemExit) as exit_:
        options.check(options)
    assert exit_.value.code == 2
    assert "extra [web]" in capsys.readouterr().err
