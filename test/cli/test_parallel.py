"""Tasks over many items, in processes and on Ray."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tasks import die_at_first, seen_gpus, square, warn

from qdtrack_ros.cli import parallel
from qdtrack_ros.cli.parallel import Outcome, run_in_processes, run_on_ray
from qdtrack_ros.cli.record import Model, Task, track_source
from qdtrack_ros.configuration import ConfigurationError
from qdtrack_ros.data.types import DataError
from qdtrack_ros.data.types import Sequence as FrameSequence
from qdtrack_ros.inference.presets import load_preset

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


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], str]]:
    """Starts a cluster of one machine of two cores, which says that it has so many GPUs; gives its address."""
    pytest.importorskip("ray", reason="ray is not installed")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    started = []

    def start(gpus: int) -> str:
        machine = {"num_cpus": 2, "num_gpus": gpus, "include_dashboard": False}
        started.append(Cluster(initialize_head=True, head_node_args=machine))
        return str(started[-1].address)

    yield start
    for one in started:
        one.shutdown()


def test_tasks_of_a_cluster_with_gpus_claim_one_each(cluster: Callable[[int], str]) -> None:
    address = cluster(2)
    claimed = {
        gpus: {outcome.result for outcome in run_on_ray(seen_gpus, [1, 2], address, 1, gpus)} for gpus in (None, 2, 0)
    }
    assert claimed[None] <= {"0", "1"} and claimed[2] == {"0,1"} and not {"0", "1", "0,1"} & claimed[0]


@pytest.mark.parametrize(
    ("device", "engine", "asked", "claimed"),
    [
        ("auto", "auto", None, None),
        ("cuda", "torch", None, None),
        ("cpu", "auto", None, 0.0),
        ("auto", "noop", None, 0.0),
        ("auto", "auto", 0.5, 0.5),
    ],
)
def test_what_needs_no_gpu_claims_none(device: str, engine: str, asked: float | None, claimed: float | None) -> None:
    assert Model(load_preset("pedestrian"), None, device, engine, "auto", 1, asked).claimed_gpus == claimed


def test_a_worker_refuses_two_sequences_of_one_name() -> None:
    video: Any = SimpleNamespace(source=None, sequence=FrameSequence("a", (), None, True), count=0)
    task = Task(None, lambda _: [video, video], Model(load_preset("pedestrian"), None, "cpu", "auto", "auto", 1), ())
    with pytest.raises(DataError, match="2 sequences are named a: track them with one job"):
        track_source(task)


def test_a_numbered_gpu_is_for_ray_to_choose() -> None:
    with pytest.raises(ConfigurationError, match="'cuda:1', but Ray chooses"):
        Model(load_preset("pedestrian"), None, "cuda:1", "auto", "auto", 1).claimed_gpus  # noqa: B018


def test_a_claim_that_no_machine_can_meet_is_told(
    cluster: Callable[[int], str], caplog: pytest.LogCaptureFixture
) -> None:
    ray = pytest.importorskip("ray")
    ray.init(address=cluster(0), log_to_driver=False, logging_level="ERROR")
    try:
        parallel._warn_of_waiting(ray, {"CPU": 1, "GPU": 0.0})
        assert not caplog.messages
        parallel._warn_of_waiting(ray, {"CPU": 1, "GPU": 0.5})
    finally:
        ray.shutdown()
    assert caplog.messages == [
        "no machine of the cluster has the 1 CPU and 0.5 GPU that a task claims: waiting until one joins"
    ]
