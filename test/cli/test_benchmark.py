from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from qdtrack_ros.cli import (
    association_benchmark,
    bag_benchmark,
    benchmark,
    preprocess_benchmark,
    roofline,
    timing,
    torchvision_comparison,
    tracking_benchmark,
)
from qdtrack_ros.cli import main as cli
from qdtrack_ros.data.synthetic import street
from qdtrack_ros.data.types import Frame
from qdtrack_ros.inference.engine import cpu_graph_backends
from qdtrack_ros.inference.presets import load_preset
from qdtrack_ros.inference.static_engine import static_form
from qdtrack_ros.models import QDTrack
from qdtrack_ros.models.checkpoint import save_weights


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "WARMUP", 1)
    monkeypatch.setattr(preprocess_benchmark, "WARMUP", 1)


def test_association_reports_each_case(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "a.json"
    words = ["benchmark", "association", "--detections", "5", "12", "--memory", "8", "--dim", "16", "--repeats", "3"]
    assert cli.main([*words, "--json", str(report)]) == 0
    content = json.loads(report.read_text(encoding="utf-8"))
    assert [result["case"]["detections"] for result in content["results"]] == [5, 12]
    for result in content["results"]:
        times = result["milliseconds"]
        assert 0 < times["minimum"] <= times["median"] <= times["p90"] <= times["p99"] and times["iqr"] >= 0
    assert content["machine"]["cores"] >= 1 and "numpy" in content["machine"]["versions"]
    assert content["repeats"] == 3 and content["date"].startswith("20")
    shown = capsys.readouterr().out
    assert "repeats 3\n" in shown
    assert all(f"{result['milliseconds']['median']:.3f}" in shown for result in content["results"])


def test_association_measures_a_full_memory_each_time() -> None:
    """What is measured matches: each known object is found again, which a step on a worn memory would not do."""
    from qdtrack_ros.tracking import AssociationConfig, QuasiDenseTracker

    objects = association_benchmark.scattered(np.random.default_rng(0), 300, 256)
    tracker = QuasiDenseTracker(AssociationConfig())
    first = tracker.step(*association_benchmark.rows(objects, 223), frame_index=0)
    again = tracker.step(*association_benchmark.rows(objects, 100), frame_index=1)
    assert again.track_ids.tolist() == first.track_ids[:100].tolist()


def test_engine_reports_its_case(preset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "e.json"
    words = ["benchmark", "engine", "--preset", str(preset), "--engine", "noop", "--size", "64x48", "--batch", "2"]
    assert cli.main([*words, "--repeats", "2", "--json", str(report)]) == 0
    (result,) = json.loads(report.read_text(encoding="utf-8"))["results"]
    assert result["case"] == {"engine": "noop", "preset": "tiny", "size": "64x48", "batch": 2, "detections": 0}


def test_several_engines_sizes_and_batches_in_one_call(preset: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    weights = tmp_path / "tiny.safetensors"
    save_weights(QDTrack(load_preset(str(preset)).model), weights)
    words = ["benchmark", "engine", "--preset", str(preset), "--weights", str(weights), "--engine", "noop", "torch"]
    words += ["--size", "64x48", "96x64", "--batch", "1", "3", "--repeats", "2"]
    words += ["--plot", str(tmp_path / "e.png"), "--json", str(tmp_path / "e.json")]
    assert cli.main(words) == 0
    results = json.loads((tmp_path / "e.json").read_text(encoding="utf-8"))["results"]
    cases = [(one["case"]["engine"].split()[0], one["case"]["size"], one["case"]["batch"]) for one in results]
    assert cases == [(name, size, n) for name in ("noop", "torch") for size in ("64x48", "96x64") for n in (1, 3)]
    for one in results:
        assert one["figures"]["per_picture_ms"] == pytest.approx(one["milliseconds"]["median"] / one["case"]["batch"])
    assert all(results[-1]["stages"][stage] > 0 for stage in ("preprocess", "inference", "postprocess"))
    plot = cv2.imread(str(tmp_path / "e.png"))
    assert plot is not None and len(np.unique(plot.reshape(-1, 3), axis=0)) > 3


def test_torchvisions_detector_is_measured_in_the_same_run(preset: Path, tmp_path: Path) -> None:
    words = ["benchmark", "engine", "--preset", str(preset), "--engine", "noop", "--size", "60x50", "--batch", "1", "2"]
    words += ["--vs", "torchvision", "--device", "cpu", "--repeats", "1", "--json", str(tmp_path / "e.json")]
    assert cli.main(words) == 0
    results = json.loads((tmp_path / "e.json").read_text(encoding="utf-8"))["results"]
    name = "torchvision fasterrcnn_resnet50_fpn cpu fp32"
    assert [one["case"]["engine"] for one in results] == ["noop", "noop", name, name]
    assert [one["case"]["size"] for one in results] == ["60x50"] * 4
    assert [(one["case"]["input"], one["case"]["batch"]) for one in results[2:]] == [("96x64", 1), ("96x64", 2)]
    for one in results[2:]:
        assert one["figures"]["per_picture_ms"] == pytest.approx(one["milliseconds"]["median"] / one["case"]["batch"])


def test_bars_are_as_long_as_the_stages_say(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="pip install matplotlib")
    from qdtrack_ros.evaluation.report.stage_bars import write_stage_bars

    def coloured(stages: dict[str, float]) -> list[int]:
        write_stage_bars(tmp_path / "bars.png", "bars", [("a", stages), ("b", {"first": 10.0})])
        picture = cv2.imread(str(tmp_path / "bars.png"))
        rgb = [(31, 119, 180), (255, 127, 14)]  # the first two of matplotlib's colours
        return [int((picture[..., ::-1] == colour).all(axis=2).sum()) for colour in rgb]

    even, uneven = coloured({"first": 5.0, "second": 5.0}), coloured({"first": 1.0, "second": 9.0})
    assert uneven[1] > 1.5 * even[1] > 0 and uneven[0] < even[0]


def test_a_bar_tells_the_median_of_the_table() -> None:
    """Not the sum of the stages' medians, which is another number."""
    result = {"case": {"engine": "a"}, "milliseconds": {"median": 12.0}, "stages": {"first": 5.0, "second": 6.0}}
    assert benchmark.bar(result) == ("engine a: 12.000 ms", {"first": 5.0, "second": 6.0})


def test_a_plot_without_matplotlib_says_what_to_install(
    preset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "qdtrack_ros.evaluation.report.stage_bars", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    words = ["benchmark", "engine", "--preset", str(preset), "--engine", "noop", "--repeats", "1"]
    assert cli.main([*words, "--plot", str(tmp_path / "e.png")]) == cli.EXIT_FAILED
    assert "pip install matplotlib" in capsys.readouterr().err and not (tmp_path / "e.png").exists()


def test_preprocess_is_told_by_step(preset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "p.json"
    words = ["benchmark", "preprocess", "--preset", str(preset), "--size", "200x100", "90x60", "--batch", "1", "2"]
    assert cli.main([*words, "--repeats", "2", "--json", str(report)]) == 0
    content = json.loads(report.read_text(encoding="utf-8"))
    cases = [result["case"] for result in content["results"]]
    assert [one["step"] for one in cases[:3]] == ["resize", "normalise, pad", "all"]
    assert [(one["size"], one["input"], one["batch"]) for one in cases[::3]] == [
        ("200x100", "96x64", 1),
        ("200x100", "96x64", 2),
        ("90x60", "96x64", 1),
        ("90x60", "96x64", 2),
    ]
    out = capsys.readouterr().out
    assert {"python", "numpy", "torch"} <= content["machine"]["versions"].keys()
    assert f"numpy {np.__version__}" in out and "median" in out and "iqr" in out


def test_bags_of_both_storages_and_kinds_beside_the_engine(tmp_path: Path, preset: Path) -> None:
    pytest.importorskip("rosbags", reason="pip install rosbags")
    report = tmp_path / "b.json"
    words = ["benchmark", "bag", "--preset", str(preset), "--engine", "noop", "--size", "64x48", "--repeats", "3"]
    assert cli.main([*words, "--json", str(report)]) == 0
    results = json.loads(report.read_text(encoding="utf-8"))["results"]
    assert [one["case"]["bag"] for one in results[::3]] == ["sqlite3 bgr8", "sqlite3 jpeg", "mcap bgr8", "mcap jpeg"]
    measured = [one["case"]["measured"] for one in results[:3]]
    assert measured == ["decoding", "engine alone: noop", "tracked from the bag"]
    assert all(one["case"]["size"] == "64x48" and one["case"]["frames"] == 3 for one in results)
    rates = [one["figures"]["frames_per_second"] for one in results]
    assert all(rate > 0 for rate in rates)
    assert results[2]["figures"]["times_engine"] > 0


def test_what_a_bag_costs_is_the_middle_of_five_turns(
    tmp_path: Path, preset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("rosbags", reason="pip install rosbags")
    turns = [4.0, 6.0, 1.0, 1.0, 8.0]  # other work on the machine while the engine ran, twice

    def frame_times(frames: Iterable[Frame], use: Callable[[Frame], object]) -> list[float]:
        for frame in frames:
            use(frame)
        calls.append(len(calls))
        tracked = calls[-1] and calls[-1] % 2 == 0
        return [turns[calls[-1] // 2 - 1]] * 2 if tracked else [2.0] * 2

    calls: list[int] = []
    monkeypatch.setattr(bag_benchmark, "_frame_times", frame_times)
    report = tmp_path / "b.json"
    words = ["benchmark", "bag", "--preset", str(preset), "--engine", "noop", "--size", "64x48", "--repeats", "2"]
    assert cli.main([*words, "--storage", "mcap", "--encoding", "bgr8", "--json", str(report)]) == 0
    _, alone, tracked = json.loads(report.read_text(encoding="utf-8"))["results"]
    assert (alone["milliseconds"]["median"], tracked["milliseconds"]["median"]) == (2.0, 4.0)
    assert tracked["figures"]["times_engine"] == 2.0 and tracked["figures"]["frames_per_second"] == 250.0


def test_a_bag_of_ones_own_and_what_is_none(tmp_path: Path, preset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("rosbags", reason="pip install rosbags")
    from qdtrack_ros.data.bag_images import write_video_as_bag

    write_video_as_bag(street(5, (80, 60)), tmp_path / "own", encoding="png", storage="mcap")
    report = tmp_path / "b.json"
    words = ["benchmark", "bag", "--preset", str(preset), "--engine", "noop", "--repeats", "4", "--source"]
    assert cli.main([*words, str(tmp_path / "own"), "--json", str(report)]) == 0
    case = json.loads(report.read_text(encoding="utf-8"))["results"][0]["case"]
    assert case == {"measured": "decoding", "bag": "own", "size": "80x60", "frames": 4}
    assert cli.main([*words, str(tmp_path / "none")]) == cli.EXIT_FAILED
    assert "is no bag; give a rosbag2 folder" in capsys.readouterr().err


def test_the_roofline_counts_what_the_layers_do() -> None:
    preset = load_preset("bdd100k")
    form = static_form(QDTrack(preset.model), preset.preprocess, (96, 128), dtype=torch.float16)
    work = roofline.work_of(form, 1)
    twice = roofline.work_of(form, 2)
    # Whatever a picture's size: 1000 regions go through the box head, 100 through the embedding head.
    heads = 1000 * (256 * 49 * 1024 + 1024 * 1024 + 1024 * 41) + 100 * (4 * 49 * 256 * 256 * 9 + 256 * 49 * 1024)
    assert 2 * heads < work.flops < 2.5 * heads
    assert twice.flops == pytest.approx(2 * work.flops)
    weights = 2 * sum(part.numel() for part in form.network.parameters())
    assert weights < work.moved < twice.moved < 2 * work.moved
    assert work.floor_ms(1.0, 1e9) == pytest.approx(work.flops / 1e9)
    assert work.floor_ms(1e9, 1.0) == pytest.approx(work.moved / 1e6)


def test_the_engine_tells_how_far_it_is_from_the_roofline(
    preset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["benchmark", "engine", "--preset", str(preset), "--engine", "noop", "--size", "64x48", "--repeats", "2"]
    assert cli.main([*words, "--roofline", "989", "3350", "--json", str(tmp_path / "e.json")]) == 0
    (result,) = json.loads((tmp_path / "e.json").read_text(encoding="utf-8"))["results"]
    figures = result["figures"]
    assert figures["gflop"] > 0 and figures["floor_ms"] > 0
    assert figures["times_floor"] == pytest.approx(result["milliseconds"]["median"] / figures["floor_ms"])
    assert "times_floor" in capsys.readouterr().out


def test_tracking_puts_every_frame_through_every_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking_benchmark, "WARMUP", 1)
    report = tmp_path / "t.json"
    words = [
        "benchmark",
        "tracking",
        "--size",
        "320x240",
        "--repeats",
        "3",
        "--set",
        "preprocess.image_scale=[320,240]",
    ]
    assert cli.main([*words, "--engines", "torch:reference", "torch:static", "--json", str(report)]) == 0
    first, second = json.loads(report.read_text(encoding="utf-8"))["results"]
    assert (first["case"]["engine"], second["case"]["engine"]) == ("torch cpu fp32", "torch cpu fp32 static")
    assert first["case"]["frames"] == second["case"]["frames"] == 3
    assert first["case"]["boxes_tracked"] == second["case"]["boxes_tracked"]
    assert first["figures"]["frames_per_second"] > 0


def test_torchvision_is_measured_in_turns_on_the_same_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchvision_comparison, "WARMUP", 0)
    report = tmp_path / "t.json"
    words = ["benchmark", "torchvision", "--size", "60x60", "--repeats", "1", "--json", str(report)]
    assert cli.main(words) == 0
    results = json.loads(report.read_text(encoding="utf-8"))["results"]
    engines = cpu_graph_backends()
    ours = [f"qdtrack static, {name} cpu {precision}" for name, precision in engines]
    theirs = ["torchvision fasterrcnn_resnet50_fpn"]
    if ("openvino", "bf16") in engines:
        theirs.append(f"{theirs[0]}, bf16")
    assert [one["case"]["network"] for one in results] == ["qdtrack without embeddings", "qdtrack", *ours, *theirs]
    assert {result["case"]["size"] for result in results} == {"64x64"}


@pytest.mark.parametrize("size", ["1x1", "31x64", "640", "0x0", "axb"])
def test_pictures_too_small_for_a_street_are_wrong_usage(size: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["benchmark", "engine", "--size", size])
    assert stop.value.code == cli.EXIT_USAGE and "WIDTHxHEIGHT" in capsys.readouterr().err


def test_turns_take_every_call_alike() -> None:
    calls: list[str] = []
    times = timing.in_turns({name: lambda name=name: calls.append(name) for name in "ab"}, 3, 2)
    assert calls == ["a", "b"] * 5 and set(times) == {"a", "b"}


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_loader_reports_each_number_of_workers(tmp_path: Path, preset: Path) -> None:
    picture = tmp_path / "data" / "pictures" / "a.png"
    picture.parent.mkdir(parents=True)
    cv2.imwrite(str(picture), np.full((96, 128, 3), 90, np.uint8))
    (tmp_path / "data" / "a.json").write_text(
        json.dumps(
            {
                "images": [{"id": 1, "file_name": "a.png", "width": 128, "height": 96}],
                "categories": [{"id": 1, "name": "person"}],
                "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [20, 10, 30, 60], "area": 1800}],
            }
        )
    )
    source = {"format": "coco", "path": "pictures", "annotations": "a.json", "scope": 0, "labels": {"person": "person"}}
    config = tmp_path / "small.yaml"
    config.write_text(json.dumps({"preset": str(preset), "sources": [source], "batch_size": 3}))
    report = tmp_path / "l.json"
    words = ["benchmark", "loader", str(config), "--data", str(tmp_path / "data"), "--repeats", "2"]
    words += ["--set", "pairs.augmentation.size=[64, 96]", "--json", str(report)]
    assert cli.main([*words, "--workers", "0", "1"]) == 0
    results = json.loads(report.read_text(encoding="utf-8"))["results"]
    assert [result["case"] for result in results] == [
        {"config": "small", "workers": workers, "batch": 3} for workers in (0, 1)
    ]
    for result in results:
        assert result["figures"]["pairs_per_second"] == pytest.approx(1e3 / result["milliseconds"]["pair"])
    with pytest.raises(SystemExit, match="2"):
        cli.main([*words, "--workers=-1"])
