"""Latency figures and log throttling."""

from __future__ import annotations

import logging
import mmap
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from qdtrack_ros.node.frame_timing import LatencyWindow
from qdtrack_ros.node.library_log import in_node_log
from qdtrack_ros.node.log_throttle import LogThrottle
from qdtrack_ros.node.publication_gaps import PublicationGaps


def test_latency_percentiles_of_the_last_seconds():
    window = LatencyWindow(span_s=10.0)
    start = window._began_s
    for i in range(200):
        window.add(1000.0 if i < 100 else float(i - 99), now_s=start + 0.1 * (i + 1))
    summary = window.summary(now_s=start + 20.0)
    assert summary.p50_ms == pytest.approx(50.0, abs=1.0)
    assert summary.p99_ms == pytest.approx(99.0, abs=1.1)
    assert summary.rate_hz == pytest.approx(10.0, rel=0.05)


def test_no_frames_are_no_figures():
    summary = LatencyWindow().summary()
    assert summary.rate_hz == 0.0 and np.isnan(summary.p50_ms) and np.isnan(summary.p99_ms)


def test_a_young_or_overfull_window_shows_the_true_rate():
    window = LatencyWindow(span_s=10.0)
    start = window._began_s
    for i in range(20):
        window.add(5.0, now_s=start + 0.1 * (i + 1))
    assert window.summary(now_s=start + 2.0).rate_hz == pytest.approx(10.0)
    small = LatencyWindow(span_s=10.0, capacity=50)
    for i in range(1000):
        small.add(5.0, now_s=small._began_s + 0.01 * (i + 1))
    assert small.summary(now_s=small._began_s + 10.0).rate_hz == pytest.approx(100.0, rel=0.05)


def test_a_repeated_fault_is_told_once_a_period_with_the_number_held_back():
    now = [0.0]
    throttle = LogThrottle(10.0, clock=lambda: now[0])
    assert throttle.pass_on("truncated", "cut") == "cut"
    for _ in range(5):
        now[0] += 1.0
        assert throttle.pass_on("truncated", "cut") is None
    assert throttle.pass_on("oversized", "big") == "big"
    now[0] = 11.0
    assert throttle.pass_on("truncated", "cut") == "cut (and 5 more like it)"
    now[0] = 22.0
    assert throttle.pass_on("truncated", "cut") == "cut"


def test_what_was_held_back_is_told_even_if_nothing_more_of_its_kind_comes():
    now = [0.0]
    throttle = LogThrottle(10.0, clock=lambda: now[0])
    throttle.pass_on("jump", "jump 1")
    throttle.pass_on("cut", "cut 1")
    for number in (2, 3):
        throttle.pass_on("jump", f"jump {number}")
    assert throttle.overdue() == []
    now[0] = 10.0
    assert throttle.overdue() == [("jump", "jump 3 (and 1 more like it)")]
    assert throttle.overdue() == [] and throttle.pass_on("jump", "jump 4") is None, "that counts as told"
    assert throttle.overdue(all_held=True) == [("jump", "jump 4")]


def test_gaps_in_the_numbers_of_each_publisher_are_counted():
    gaps = PublicationGaps()

    def missed(*numbers, publisher="a"):
        messages = ({"publication_sequence_number": n, "publisher_gid": {"data": publisher}} for n in numbers)
        return [gaps.missed(message) for message in messages]

    assert missed(7, 8, 11, 12) == [0, 0, 2, 0]
    assert missed(100, 102, publisher="b") == [0, 1]
    assert missed(13) == [0], "two publishers of one topic are no gap"
    assert missed(1, 2) == [0, 0], "the middleware began anew"


def test_a_middleware_without_numbers_and_a_driver_that_restarts_for_ever():
    gaps = PublicationGaps()
    assert gaps.missed({"publication_sequence_number": None}) == gaps.missed({}) == 0
    for publisher in range(1000):
        gaps.missed({"publication_sequence_number": 1, "publisher_gid": publisher})
    assert len(gaps._last) <= 64


def test_a_gpu_that_does_not_answer_and_a_pytorch_half_imported_are_no_fault_of_the_node(monkeypatch):
    pytest.importorskip("rclpy", reason="rclpy is not installed: no diagnostics")
    from qdtrack_ros.node.diagnostics import device_memory_mib
    from qdtrack_ros.node.worker import free_device_cache

    def lost():
        raise RuntimeError("CUDA error: device lost")

    cuda = SimpleNamespace(is_initialized=lambda: True, memory_reserved=lost, empty_cache=lost)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    assert np.isnan(device_memory_mib()).all()
    free_device_cache()
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace())
    assert device_memory_mib() == (0.0, 0.0)
    free_device_cache()


def test_memory_of_a_gpu_is_what_pytorch_holds_and_what_is_left(monkeypatch):
    pytest.importorskip("rclpy", reason="rclpy is not installed: no diagnostics")
    from qdtrack_ros.node.diagnostics import device_memory_mib

    mib = 2**20
    cuda = SimpleNamespace(
        is_initialized=lambda: True, memory_reserved=lambda: 300 * mib, mem_get_info=lambda: (900 * mib, 8000 * mib)
    )
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    assert device_memory_mib() == (300.0, 900.0)


def test_resident_memory_counts_in_this_machines_pages(monkeypatch):
    pytest.importorskip("rclpy", reason="rclpy is not installed: no diagnostics")
    from qdtrack_ros.node import diagnostics

    small = diagnostics.resident_memory_mib()
    sizes = {"SC_PAGE_SIZE": 65536}  # as on some ARM boards
    monkeypatch.setattr(diagnostics.os, "sysconf", sizes.__getitem__)
    assert diagnostics.resident_memory_mib() == pytest.approx(small * 65536 / mmap.PAGESIZE, rel=0.2)


@pytest.mark.parametrize(("namespace", "expected"), [("", "qdtrack: engine"), ("/robot1", "robot1/qdtrack: engine")])
def test_robots_that_share_diagnostics_are_told_apart(namespace, expected):
    rclpy = pytest.importorskip("rclpy", reason="rclpy is not installed: no diagnostics")
    from rclpy.node import Node

    from qdtrack_ros.node.health_reporter import HealthReporter

    context = rclpy.Context()
    rclpy.init(args=[], context=context)
    node = Node("qdtrack", namespace=namespace, context=context, use_global_arguments=False)
    try:
        reporter = HealthReporter(node, lambda: None, lambda: "unconfigured", lambda: "")
        sent = []
        reporter._publisher = SimpleNamespace(publish=sent.append)
        reporter._report()
        assert [status.name for status in sent[0].status] == [expected]
    finally:
        node.destroy_node()
        rclpy.shutdown(context=context)


def test_what_the_package_says_stands_in_the_nodes_log_and_nowhere_else(capfd):
    told = []
    log = SimpleNamespace(
        info=lambda text: told.append(("info", text)),
        warning=lambda text: told.append(("warning", text)),
        error=lambda text: told.append(("error", text)),
    )
    library = logging.getLogger("qdtrack_ros.inference.static_engine")
    with in_node_log(log):
        library.debug("a detail")
        library.info("engine: torch cpu")
        library.warning("pictures come in\n%d sizes", 5)
        library.error("lost")
    library.warning("afterwards")
    assert told == [("info", "engine: torch cpu"), ("warning", "pictures come in 5 sizes"), ("error", "lost")]
    assert "sizes" not in "".join(capfd.readouterr())
