"""Tasks over many items, in processes and on Ray."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest
from tasks import die_at_first, square, warn

from qdtrack_ros.cli.parallel import Outcome, run_in_processes, run_on_ray

Run = Callable[..., Iterator[Outcome]]


@pytest.fixture(params=["one process", "two processes", "ray"])
def run(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Run:
    if request.param == "ray":
        pytest.importorskip("ray", reason="ray is not installed")
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # a cluster's machines have the task installed
        return partial(run_on_ray, address="auto", cpus=1)
    return partial(run_in_processes, jobs=1 if request.param == "one process" else 2)


def in_order(outcomes: Iterator[Outcome]) -> Sequence[Outcome]:
    return sorted(outcomes)


def test_results_and_errors_stay_with_their_items(run: Run) -> None:
    found = in_order(run(square, [1, 2, 3, 4, 5]))
    assert [outcome.place for outcome in found] == list(range(5))
    assert [outcome.result for outcome in found] == [1, 4, None, None, 25]
    assert [outcome.error for outcome in found] == ["", "", "bag 3 cannot be read", "KeyError: 'a fault of ours'", ""]


def test_a_worker_that_is_killed_is_tried_again(run: Run, tmp_path: Path) -> None:
    found = in_order(run(partial(die_at_first, tmp_path), [0, 1, 2]))
    assert [outcome.result for outcome in found] == [0, -1, None]
    assert found[0].error == found[1].error == "" and "died 2 times" in found[2].error


def test_processes_end_with_their_reader(tmp_path: Path) -> None:
    outcomes = run_in_processes(square, [1, 2, 5, 6], jobs=2)
    next(outcomes)
    outcomes.close()  # type: ignore[attr-defined]
    assert not multiprocessing.active_children()


def test_warnings_of_processes_look_like_those_of_the_command(capfd: pytest.CaptureFixture[str]) -> None:
    list(run_in_processes(warn, [1, 2], jobs=2))
    lines = sorted(capfd.readouterr().err.splitlines())
    assert lines == [f"qdtrack: WARNING: item {item} is odd" for item in (1, 2)]


def test_a_cluster_that_does_not_answer_is_an_error() -> None:
    pytest.importorskip("ray", reason="ray is not installed")
    with pytest.raises(ConnectionError, match="no cluster at 127.0.0.1:1"):
        next(run_on_ray(square, [1], "127.0.0.1:1", 1))
    with pytest.raises(ConnectionError, match="'nonsense'; expected HOST:PORT"):
        next(run_on_ray(square, [1], "nonsense", 1))
