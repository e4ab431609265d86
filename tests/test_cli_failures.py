"""What goes wrong outside the input: one line, exit code 1, no secret, and a traceback only for who asks for it."""

from pathlib import Path

import pytest

from forexgpt_core.cli.main import main
from forexgpt_core.composition import Platform


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FOREXGPT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home" / "dagster"))
    return tmp_path / "home"


def failure(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    assert stopped.value.code == 1
    return capsys.readouterr().err


def test_doctor_fails_where_something_is_broken(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FOREXGPT_DATABASE_URL", "postgresql://desk:s3cret@127.0.0.1:1/none")
    with pytest.raises(SystemExit) as stopped:
        main(["doctor", "--json"])
    assert stopped.value.code == 1
    shown = capsys.readouterr()
    assert '"ok": false' in shown.out
    assert "s3cret" not in shown.out + shown.err


@pytest.mark.parametrize("verb", ["live status", "symbols list", "symbols add EURUSD"])
def test_a_home_that_cannot_be_made_is_named(verb: str, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home.write_text("a file, no folder")
    told = failure(capsys, *verb.split())
    assert told.count("\n") == 1
    assert f"the folder {home} cannot be made: File exists; FOREXGPT_HOME names where state is kept" in told


def test_an_unexpected_error_is_one_line_without_a_secret(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(_: Platform) -> None:
        raise OSError("no space left for http://bob:s3cret@host/x\nsecond line")

    monkeypatch.setattr(Platform, "prepare", full)
    told = failure(capsys, "live", "status")
    assert told == (
        "forexgpt: unexpected OSError: no space left for http://***@host/x; 'forexgpt --debug ...' shows where\n"
    )
    with pytest.raises(OSError, match="no space left"):
        main(["--debug", "live", "status"])
