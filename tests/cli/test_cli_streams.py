"""Output reaches pipes and terminals of every encoding, and nothing ends in a traceback."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from trueboundary.cli import main
from trueboundary.cli.output_streams import plain
from trueboundary.experiments import Measurement
from trueboundary.report.words import measured_value

ENCODINGS = ["ascii", "cp437", "cp1252"]

pytestmark = pytest.mark.usefixtures("tiny")


@pytest.fixture
def say(monkeypatch):
    """Run a command whose streams have an encoding; return status and the bytes of both."""

    def run(encoding, *arguments):
        with monkeypatch.context() as patch:
            streams = io.BytesIO(), io.BytesIO()
            out, err = (io.TextIOWrapper(stream, encoding) for stream in streams)
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", err)
            status = main(list(arguments))
            assert (sys.stdout, sys.stderr) == (out, err), "the streams are as they were"
            out.flush(), err.flush()
            return status, *(stream.getvalue() for stream in streams)

    return run


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_command_can_be_piped_whatever_the_encoding(say, encoding):
    Path("grid.toml").write_text('[[sweep]]\nexperiment = "sums"\nscale = "smoke"\n')
    commands = {
        ("run", "sums", "--scale", "smoke", "--out", "größe"): 0,
        ("report", "größe"): 0,
        ("list",): 0,
        ("doctor",): 0,
        ("theory", "cap", "--dim", "50", "--measure", "1e-7", "--json"): 0,
        ("sweep", "grid.toml", "--out", "größe", "--dry-run"): 0,
        ("run", "--help"): 0,
        ("dataset", "load", "nirgends – 10⁻⁶"): 2,
        ("measure", "error", "nirgends – 10⁻⁶"): 2,
        ("run", "sums – 10⁻⁶"): 2,
        ("--größe",): 2,
    }
    for command, status in commands.items():
        found, out, err = say(encoding, *command)
        assert (found, "Traceback" in err.decode(encoding)) == (status, False), command
        assert out.decode(encoding) + err.decode(encoding), command


def test_a_pipe_that_is_ascii_gets_ascii_and_readable_text(say):
    status, out, err = say("ascii", "run", "sums", "--scale", "smoke", "--out", "größe")
    assert status == 0, err
    assert "Report: grosse/report/index.html" in out.decode("ascii")
    assert (
        say("ascii", "run", "sums – 10⁻⁶ × 2")[2]
        .decode("ascii")
        .startswith("trueboundary: there is no experiment 'sums - 10^-6 x 2'")
    )


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes")
def test_a_file_name_that_is_no_text_can_be_named_in_a_sentence(say):
    name = os.fsdecode(b"caf\xe9")
    status, _, err = say("utf-8", "report", name)
    assert status == 2
    assert rb"caf\udce9 holds no results" in err


def test_a_finished_run_is_printed_by_a_process_whose_pipe_is_not_utf8(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "trueboundary", "theory", "cap", "--dim", "9", "--measure", "x−"],
        capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": "cp1252"},
    )
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr


class Full(io.StringIO):
    """A stream onto a disk that is full."""

    def write(self, text):
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize("command", ["list", "doctor", "theory cap --dim 9 --measure 0.1"])
def test_output_onto_a_full_disk_is_one_sentence(capsys, monkeypatch, command):
    monkeypatch.setattr(sys, "stdout", Full())
    assert main(command.split()) == 1
    assert capsys.readouterr().err == (
        "trueboundary: the output could not be written: No space left on device\n"
    )


@pytest.mark.parametrize("value", [-6.182, 1.479e-6, -1e-21, 20_000_000, float("-inf")])
def test_measured_values_are_written_in_characters_that_every_system_has(value):
    for encoding in ("cp1252", "latin-1"):
        measured_value(Measurement(value, value, value)).encode(encoding)


@pytest.mark.parametrize(
    ("text", "encoding", "shown"),
    [
        ("10⁻⁶ × 3", "ascii", "10^-6 x 3"),
        ("10⁻²", "latin-1", "10^-2"),
        ("10²", "latin-1", "10²"),
        ("a ≤ b – c…", "ascii", "a <= b - c..."),
        ("Ångström, 顔", "ascii", "Angstrom, ?"),
        ("\udcff", "utf-8", "\\udcff"),
        ("−1", "utf-8", "−1"),
    ],
)
def test_what_an_encoding_cannot_hold_is_spelled(text, encoding, shown):
    assert plain(text, encoding) == shown
