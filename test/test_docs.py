"""The blocks of docs/python.md run, in their order, as one program; so does the one that uses an exported file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from qdtrack_ros import Tracker
from qdtrack_ros.catalogue import find_weights, load_catalogue
from qdtrack_ros.cli import main as cli
from qdtrack_ros.data.synthetic import street
from qdtrack_ros.data.video_writer import VideoWriter
from qdtrack_ros.inference.presets import preset_names

DOCS = Path(__file__).resolve().parent.parent / "docs"


def blocks(page: str) -> list[tuple[int, str]]:
    """Line and text of every Python block of a page."""
    text = (DOCS / page).read_text(encoding="utf-8")
    found = re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [(text[: match.start(1)].count("\n"), match.group(1)) for match in found]


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reference_state) -> Path:
    """A folder with a video and a picture, and a cache with weights, as the page takes for granted."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QDTRACK_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    torch.save({"state_dict": reference_state}, tmp_path / "cache" / find_weights("bdd100k-r50").file)
    with VideoWriter(tmp_path / "street.mp4", 10.0) as writer:
        for frame in street(3, (320, 240)).frames:
            writer.add(frame.load())
    cv2.imwrite("picture.jpg", frame.load())
    return tmp_path


def test_the_python_page_runs(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    for line, text in blocks("python.md"):
        code = compile("\n" * line + text, str(DOCS / "python.md"), "exec")  # tracebacks name the page's own lines
        exec(code, names)
    assert names["index"] == 3 and (workplace / "state.npz").is_file()
    assert np.asarray(names["result"].track_ids).tolist() == [0, 1]  # type: ignore[attr-defined]
    out = capsys.readouterr().out
    assert "('pedestrian', 'rider', 'car'" in out and "memory_frames=60" in out
    assert "weights file mot17.pth does not exist" in out


def test_an_exported_file_serves_a_program_that_has_nothing_else_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program of docs/deployment.md, on a picture that has to be resized."""
    for package in ("onnx", "onnxruntime"):
        pytest.importorskip(package, reason=f"pip install {package}")
    monkeypatch.chdir(tmp_path)
    words = ["export", "--format", "onnx", "--pooling", "roi_align", "--size", "400x300", "-o", "pedestrian.onnx"]
    assert cli.main([*words, "--set", "preprocess.image_scale=[320,256]"]) == 0
    (program,) = (text for _, text in blocks("deployment.md") if "InferenceSession" in text)
    names: dict[str, Any] = {}
    exec(program, names)
    picture = street(1, (400, 300)).frames[0].load()
    boxes, scores, labels, embeddings, exact, finite = names["detect"](picture)
    tracker = Tracker.from_preset("pedestrian", engine="torch", overrides={"preprocess.image_scale": [320, 256]})
    expected = tracker.detect(picture)
    assert exact == finite == 1 and len(expected.scores) > 5
    np.testing.assert_allclose(boxes, expected.boxes, atol=1e-2)
    np.testing.assert_allclose(scores, expected.scores, atol=1e-4)
    assert labels.tolist() == expected.labels.tolist()
    np.testing.assert_allclose(embeddings, expected.embeddings, atol=1e-2)


def test_the_weights_page_knows_all_presets_and_all_weights() -> None:
    page = (DOCS / "weights.md").read_text(encoding="utf-8")
    for name in preset_names():
        assert f"| `{name}` |" in page
    for entry in load_catalogue():
        if entry.preset:
            row = next(line for line in page.splitlines() if line.startswith(f"| `{entry.preset}` |"))
            assert f"`{entry.name}`" in row
