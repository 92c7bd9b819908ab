"""The tracker node as a process of its own, and what it writes to its log."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCRIPTED = Path(__file__).with_name("scripted_node.py")
PATIENCE_S = 120.0  # a limit for what never comes, generous for a busy machine


class NodeProcess:
    """Started on construction.

    Args:
        log: file for what it prints.
        arguments: ROS arguments, e.g. ``("-p", "autostart:=false")``.
        script: what to run; None runs the node with the scripted engine.
    """

    def __init__(self, log: Path, arguments: Sequence[str], script: Path | None = None) -> None:
        self._log = log
        command = [sys.executable, str(script or SCRIPTED), "--ros-args", *arguments]
        with log.open("wb") as stream:
            self._process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT, cwd=ROOT)

    @property
    def log(self) -> str:
        """All it printed so far."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def wait_for(self, text: str, times: int = 1) -> None:
        """Wait until `text` stands in the log so many times."""
        deadline = time.monotonic() + PATIENCE_S
        while self.log.count(text) < times:
            assert time.monotonic() < deadline, f"{text!r} never came; the log:\n{self.log}"
            assert self.is_alive, f"the node ended before {text!r}; the log:\n{self.log}"
            time.sleep(0.02)

    def end(self, number: int = signal.SIGINT) -> int:
        """Send a signal and wait for the end; the exit code."""
        self._process.send_signal(number)
        return self._process.wait(timeout=PATIENCE_S)

    def wait(self) -> int:
        """Wait for it to end by itself; the exit code."""
        return self._process.wait(timeout=PATIENCE_S)

    def kill(self) -> None:
        """Make sure that it is gone."""
        if self.is_alive:
            self._process.kill()
            self._process.wait(timeout=PATIENCE_S)
