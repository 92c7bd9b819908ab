"""The node's process keeps its memory and lets waiting threads sleep, unless the environment says otherwise."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, threading
import numpy as np
from qdtrack_ros.node.process import settle_in
settle_in()
def work():
    for turn in range(220):
        if turn == 20:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        picture, copy = np.ones(2_764_800, np.uint8), np.ones(2_764_800, np.uint8)
        del picture, copy
    print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) // 200)
thread = threading.Thread(target=work)
thread.start()
thread.join()
"""


def faults_per_image(**environment: str) -> int:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    run = subprocess.run(
        [sys.executable, "-c", FAULTS], env={**inherited, **environment}, capture_output=True, text=True, check=True
    )
    return int(run.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told to keep its memory")
def test_the_memory_of_an_image_is_used_again_for_the_next_one():
    assert faults_per_image() < 10
    assert faults_per_image(MALLOC_MMAP_THRESHOLD_="65536") > 500, "the environment has the last word"


def test_waiting_threads_sleep_unless_the_environment_says_otherwise(monkeypatch):
    from qdtrack_ros.node import process

    monkeypatch.setattr(process, "_keep_freed_memory", lambda: None)
    for given, expected in [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")]:
        monkeypatch.setattr(os, "environ", given)
        process.settle_in()
        assert given == {"OMP_WAIT_POLICY": expected}


def test_pytorch_is_not_loaded_before_the_process_has_settled_in():
    code = "import sys, qdtrack_ros.node.main, qdtrack_ros.cli.node; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"
