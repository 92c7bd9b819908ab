from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from qdtrack_ros.cli import main as cli
from qdtrack_ros.configuration import ConfigurationError

HEAVY = ("torch", "rclpy", "cv2", "numpy", "lightning", "rosbags", "trackeval", "av")


def test_help_loads_no_library() -> None:
    code = (
        "import sys\nfrom qdtrack_ros.cli.main import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as end:\n    assert end.code == 0\n"
        f"print('LOADED', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "LOADED []" in done.stdout
    assert all(name in done.stdout for name in cli.COMMANDS)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_of_a_command_loads_no_network(name: str) -> None:
    code = (
        "import sys\nfrom qdtrack_ros.cli.main import main\n"
        f"try:\n    main([{name!r}, '--help'])\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "print('LOADED', [name for name in ('torch', 'rclpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "LOADED []" in done.stdout


@pytest.mark.parametrize("words", [[], ["fly"], ["track"], ["track", "a.mp4", "--max-frames", "0"], ["play"]])
def test_wrong_usage_ends_with_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(words)
    assert end.value.code == cli.EXIT_USAGE
    assert "usage: qdtrack" in capsys.readouterr().err


def run_with(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> int:
    def fail(arguments: object) -> int:
        raise error

    module = SimpleNamespace(add_arguments=lambda parser: None, run=fail)
    monkeypatch.setattr(importlib, "import_module", lambda name: module)
    return cli.main(["doctor"])


@pytest.mark.parametrize(
    "error", [ConfigurationError("say a number"), FileNotFoundError("x: no such file"), ImportError("pip install y")]
)
def test_expected_errors_are_one_line(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_with(error, monkeypatch) == cli.EXIT_FAILED
    assert capsys.readouterr().err == f"qdtrack doctor: error: {error}\n"


def test_faults_of_ours_keep_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="a fault"):
        run_with(ValueError("a fault"), monkeypatch)


@pytest.mark.parametrize("message", ["", "stopped; go on with --resume last.ckpt"])
def test_interruption_ends_with_130_and_says_how_to_go_on(
    message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_with(KeyboardInterrupt(*filter(None, [message])), monkeypatch) == cli.EXIT_INTERRUPTED
    assert capsys.readouterr().err == f"qdtrack doctor: {message or 'interrupted'}\n"


def test_expected_errors_exist() -> None:
    for module, name in cli.EXPECTED_ERRORS.items():
        if module.startswith("qdtrack_ros.training"):
            pytest.importorskip("lightning")
        assert issubclass(getattr(importlib.import_module(module), name), Exception)


def test_node_gets_its_ros_arguments_untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[list[str]] = []

    def take(arguments: object) -> int:
        given.append(arguments.ros_arguments)  # type: ignore[attr-defined]
        return 0

    monkeypatch.setattr("qdtrack_ros.cli.node.run", take)
    assert cli.main(["node", "--ros-args", "-p", "device:=cpu", "--help"]) == 0
    assert given == [["--ros-args", "-p", "device:=cpu", "--help"]]


@pytest.mark.parametrize(
    "words",
    [
        ["track", "no video", "--mot", "{}"],
        ["track", "no video", "-o", "{}"],
        ["evaluate", "no video", "--json", "{}"],
        ["benchmark", "association", "--json", "{}"],
    ],
)
def test_a_result_that_cannot_be_written_is_refused_before_the_work(words: list[str], tmp_path: Path, capsys) -> None:
    (tmp_path / "file").touch()
    output = tmp_path / "file" / "result"
    assert cli.main([word.format(output) for word in words]) == cli.EXIT_FAILED
    captured = capsys.readouterr()
    assert f"{output} cannot be written: {tmp_path}/file is a file, not a folder" in captured.err
    assert captured.out == "" and captured.err.count("\n") == 1
