"""scripts/gpu_benchmark.py on the CPU: that it runs to its end whatever fails, what it needs, and what it writes."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "gpu_benchmark.py"

# A machine with what the script says it needs, and with what that needs itself, and nothing else.
BARE = """
import importlib.machinery, runpy, sys
THERE = {
    "torch", "torchvision", "numpy", "cv2", "safetensors", "yaml", "qdtrack_ros",
    "PIL", "sympy", "mpmath", "networkx", "jinja2", "markupsafe", "fsspec", "filelock", "typing_extensions",
    "torchgen", "functorch", "triton", "nvidia", "cuda", "optree",
}
class NothingElse:
    def find_spec(name, path=None, target=None):
        top = name.partition(".")[0]
        there = top in THERE or top in sys.stdlib_module_names or top.startswith("_")
        return importlib.machinery.PathFinder.find_spec(name, path, target) if there else None
sys.meta_path = [importlib.machinery.BuiltinImporter, importlib.machinery.FrozenImporter, NothingElse]
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_the_script_measures_all_it_promises_on_a_bare_machine(tmp_path: Path) -> None:
    words = [sys.executable, "-c", BARE, str(SCRIPT), "--smoke"]
    there = os.environ | {"PYTHONPATH": str(ROOT)}
    run = subprocess.run(words, cwd=tmp_path, env=there, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    (report,) = tmp_path.glob("**/*.json")
    assert report.parent == tmp_path / "runs" / "smoke"  # not among the figures of GPUs
    parts = json.loads(report.read_text(encoding="utf-8"))["parts"]
    assert not [(name, part["left_out"]) for name, part in parts.items() if "left_out" in part]
    assert parts["precision torch fp32"]["equal"] >= 0.995
    assert parts["precision torch fp32"]["frames_with_the_same_ids"] == 1.0
    assert not any(parts["host waits"].values())  # on the CPU: no operator whose result decides what comes next
    assert parts["kernels"]["kernels"] > 100 and parts["device"]["tflops"] > 0
    rows = [part for part in parts.values() if "way" in part]
    assert [(one["network"], one["way"], one["batch"]) for one in rows] == [
        ("R50-FPN", "static, torch cpu fp32", 1),
        ("R50-FPN", "torchvision eager fp32", 1),
        ("pedestrian", "static, torch cpu fp32", 1),
        ("R50-FPN", "static, torch cpu fp32", 2),
        ("R50-FPN", "torchvision eager fp32", 2),
        ("R50-FPN", "static, torch cpu fp32, two threads", 1),
        ("pedestrian", "static, torch cpu fp32, two threads", 1),
    ]
    assert all(one["median"] > 0 for one in rows)
    assert [one.get("times_floor", 0) > 0 for one in rows] == [one["way"].startswith("static") for one in rows]
    assert [one["way"] for one in rows if "quicker_than_torchvision" not in one] == [
        "static, torch cpu fp32",
        "static, torch cpu fp32, two threads",
    ]
    alone = rows[0]
    assert alone["per_picture"] == pytest.approx(rows[1]["per_picture"] / alone["quicker_than_torchvision"])
    assert 0 < alone["stages"]["association"] < alone["median"]
    table = report.with_suffix(".md").read_text(encoding="utf-8")
    assert "| pedestrian | static, torch cpu fp32 | 128x96 | 1 |" in table
    assert "Host waits during a launch: none." in table and "Left out" not in table


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu_benchmark", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "gpu_benchmark", module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(script, monkeypatch, tmp_path):
    """``run(parts, *words)``: the script with other parts, and what it wrote of them."""

    def run(parts, *words):
        monkeypatch.setattr(script, "parts", lambda plan: (script.Part(*part) for part in parts))
        monkeypatch.setattr(sys, "argv", ["gpu_benchmark.py", "--smoke", "--output", str(tmp_path), *words])
        assert script.main() == 0
        (report,) = tmp_path.glob("*.json")
        return json.loads(report.read_text(encoding="utf-8"))["parts"]

    return run


def failing(error):
    def measure():
        raise error

    return measure


def test_what_fails_takes_nothing_else_with_it(run, tmp_path):
    found = run(
        [
            ("first", lambda: {"way": "a", "network": "R50-FPN", "size": "1x1", "batch": 1, "per_picture": 2.0}),
            ("memory", failing(RuntimeError("CUDA out of memory.\n  Tried to allocate"))),
            ("nothing said", failing(KeyError())),
            ("slow", lambda: {"fine": 1}, 1e6),
            ("last", lambda: {"fine": 1}),
        ]
    )
    assert found["last"] == {"fine": 1} and found["first"]["per_picture"] == 2.0
    assert found["memory"] == {"left_out": "RuntimeError: CUDA out of memory. Tried to allocate"}
    assert found["nothing said"] == {"left_out": "KeyError: no reason given"}
    assert found["slow"]["left_out"].startswith("it may take 1000000 s, and 4")
    (table,) = tmp_path.glob("*.md")
    assert "- memory: RuntimeError: CUDA out of memory. Tried to allocate" in table.read_text(encoding="utf-8")


def test_a_run_that_breaks_off_leaves_what_it_had(run, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run([("first", lambda: {"fine": 1}), ("second", failing(KeyboardInterrupt()))])
    assert run([("first", failing(AssertionError)), ("second", lambda: {"fine": 2})], "--resume") == {
        "first": {"fine": 1},
        "second": {"fine": 2},
    }


def test_another_process_goes_on_when_the_device_is_lost(script, run, monkeypatch):
    class ReplacedError(Exception):
        pass

    def execv(program, words):
        assert program == words[0] == sys.executable and words[1] == "gpu_benchmark.py" and words[-1] == "--resume"
        assert words.count("--resume") == 1
        raise ReplacedError

    monkeypatch.setattr(script, "is_lost", lambda device: True)
    monkeypatch.setattr(script.os, "execv", execv)
    with pytest.raises(ReplacedError):
        run([("first", failing(RuntimeError("an illegal memory access"))), ("second", lambda: {"fine": 2})])
    monkeypatch.setattr(script, "is_lost", lambda device: False)
    assert run([("first", lambda: {"fine": 1}), ("second", lambda: {"fine": 2})], "--resume") == {
        "first": {"left_out": "RuntimeError: an illegal memory access"},
        "second": {"fine": 2},
    }


def test_a_part_that_hangs_is_cut_off(script, monkeypatch, tmp_path):
    ended = threading.Event()
    monkeypatch.setattr(script.os, "_exit", lambda code: ended.set())
    plan = script.Plan(script.torch.device("cpu"), seconds=0.0)
    report = script.Report(tmp_path, resume=False)
    with script.ending_in_time(plan, report, script.Part("hangs", dict)):
        assert ended.wait(60)
    assert report.results["parts"] == {"hangs": {"left_out": "cut off after 0 s of the whole run"}}


def test_every_way_of_a_gpu_has_a_name_of_its_own(script, monkeypatch):
    plan = script.Plan(script.torch.device("cuda"))
    names = [part.name for part in script.parts(plan)]
    assert len(names) == len(set(names)) > 30
    for words in (
        "precision torch fp16",
        "ms static, torch cuda fp16, R50-FPN 1296x736, batch 8",
        "ms static, torch cuda fp16, R50-FPN 1088x608, batch 4",
        "ms torchvision eager fp32, R50-FPN 1088x608, batch 8",
        "ms torchvision compiled fp32, R50-FPN 1296x736, batch 1",
        "ms static, torch cuda fp16 compiled, R50-FPN 1296x736, batch 1",
        "ms static, tensorrt fp16, R50-FPN 1296x736, batch 1",
        "ms static, torch cuda fp16, two threads, pedestrian 640x480, batch 1",
    ):
        assert words in names
    assert names.index("host waits") < names.index("ms static, torch cuda fp16, R50-FPN 1296x736, batch 1") < 10
