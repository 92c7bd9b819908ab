"""scripts/gpu_benchmark.py on the CPU: that it runs to its end, and what it writes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_script_measures_all_it_promises(tmp_path: Path) -> None:
    words = [sys.executable, str(ROOT / "scripts" / "gpu_benchmark.py"), "--smoke", "--output", str(tmp_path)]
    run = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    (report,) = tmp_path.glob("*.json")
    results = json.loads(report.read_text(encoding="utf-8"))
    assert {one["precision"]: one["equal"] for one in results["precision"]}["fp32"] >= 0.995
    assert not any(results["host_waits"].values())  # on the CPU: no operator whose result decides what comes next
    assert [(one["way"], one["batch"]) for one in results["milliseconds"]] == [
        ("torchvision eager fp32", 1),
        ("static, torch cpu fp32", 1),
        ("torchvision eager fp32", 2),
        ("static, torch cpu fp32", 2),
        ("static, torch cpu fp32, two threads", 1),
        ("torch cpu fp32", 1),
        ("torch cpu fp32, two threads", 1),
    ]
    assert all(one["median"] > 0 for one in results["milliseconds"])
    table = report.with_suffix(".md").read_text(encoding="utf-8")
    assert "| pedestrian | torch cpu fp32 | 128x96 | 1 |" in table and "Host waits during a launch: none." in table
