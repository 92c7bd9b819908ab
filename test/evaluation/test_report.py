"""The page: complete in itself, true to the figures, there for every case. How it looks is for a person to judge."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("scipy")
pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")

from tracked_scenes import follow, scene, small_street

from qdtrack_ros.data.types import DataError, Frame
from qdtrack_ros.evaluation.matching import Run, histories, match_frames
from qdtrack_ros.evaluation.overlaps import PreparedFrame
from qdtrack_ros.evaluation.report.moments import false_track_moments, missed_moments, switch_moments, worst
from qdtrack_ros.evaluation.report.page import Scene, render, write_report
from qdtrack_ros.evaluation.report.pictures import window
from qdtrack_ros.evaluation.report.timeline import MOST_ROWS, timeline
from qdtrack_ros.evaluation.results import results_head

VOID = {"meta", "img", "link", "br", "hr", "input"}


class Page(HTMLParser):
    """Elements of a page; fails on tags that do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, text: str) -> None:
        self.words += text

    def of_class(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for _, attributes in self.elements if attributes.get("class") == name]


def page(*scenes: Scene) -> Page:
    return Page(render(scenes, results_head([one.evaluated for one in scenes], {"preset": "pedestrian"})))


def street_scene(seed: int = 0, **quality: object) -> Scene:
    street = small_street(seed=seed)
    return scene(street, follow(street, **quality))


def test_classes_and_what_is_left_out_are_on_the_page() -> None:
    one = street_scene(missing=0.2)
    metrics = one.evaluated.result.metrics._asdict()
    facts = {"classes": {"rider": metrics, "overall": metrics}, "failed": [{"source": "bag3", "error": "cut <short>"}]}
    words = Page(render([one], results_head([one.evaluated], facts))).words
    assert "Classes" in words and "rider" in words and "bag3 is left out: cut <short>" in words
    assert "Classes" not in page(one).words


def test_the_page_needs_nothing_else(tmp_path: Path) -> None:
    one = street_scene(switching=0.1, missing=0.2, false=True)
    path = tmp_path / "new" / "report.html"
    write_report(path, [one], results_head([one.evaluated], {}))
    found = Page(path.read_text(encoding="utf-8"))
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in found.elements}
    addresses = [
        value for _, attributes in found.elements for key, value in attributes.items() if key in ("src", "href")
    ]
    links = [attributes["xlink:href"] for _, attributes in found.elements if "xlink:href" in attributes]
    assert addresses and all(address and address.startswith("data:image/jpeg;base64,") for address in addresses)
    assert all(link and link.startswith("#") for link in links)
    style = path.read_text(encoding="utf-8")
    assert "@import" not in style and not re.search(r"url\((?!#)", style)
    assert "prefers-color-scheme: dark" in style


def test_the_page_tells_the_figures_and_the_switches() -> None:
    one = street_scene(switching=0.1, missing=0.2, false=True)
    metrics, found = one.evaluated.result.metrics, page(one)
    assert metrics.id_switches > 0
    for rate in (metrics.hota, metrics.mota, metrics.idf1):
        assert f"{100 * rate:.1f}" in found.words
    assert len(found.of_class("switch")) == metrics.id_switches + 1  # the legend's
    assert "becomes" in found.words and "Track 7 covers nobody" in found.words
    assert all(text in found.words for text in ("Detector.", "Time of a frame.", "p99"))


def test_one_frame_is_not_called_frames() -> None:
    street = small_street()
    *before, last = follow(street)
    words = page(scene(street, [*before, last._replace(ids=last.ids + 1000)])).words
    assert "hold it for 1 frame or more" in words and "for 1 frames" not in words


def test_a_perfect_tracker_has_no_worst_moments() -> None:
    found = page(street_scene())
    assert "None: no switch, nobody missed for long, no false track." in found.words
    assert not [tag for tag, _ in found.elements if tag == "img"]


def test_no_tracks_at_all_are_said_to_be_none() -> None:
    found = page(street_scene(missing=1.0))
    assert "There is not one track" in found.words and "is missed" in found.words


def test_tracks_from_a_file_have_no_detector_and_no_latency() -> None:
    street = small_street()
    found = page(scene(street, follow(street), from_file=True))
    assert "The tracks came from a file" in found.words and "Time of a frame." not in found.words


def test_many_sequences_are_folded_and_summed_up() -> None:
    scenes = []
    for seed in range(12):
        one = street_scene(seed, switching=0.1 * (seed % 2), missing=0.1)
        result = one.evaluated.result._replace(name=f"<street & {seed}>")
        scenes.append(one._replace(evaluated=replace(one.evaluated, result=result)))
    found = page(*scenes)
    assert "<street & 11>" in found.words and "combined" in found.words
    folded = [attributes for tag, attributes in found.elements if tag == "details"]
    assert len(folded) == 12 and sum("open" in attributes for attributes in folded) == 3
    assert len([tag for tag, _ in found.elements if tag == "img"]) <= 2 * 8 + 3 + 3


def test_frames_that_cannot_be_decoded_are_left_out() -> None:
    one = street_scene(switching=0.2)

    def broken() -> None:
        raise DataError("no picture")

    frames = [Frame(f.index, f.timestamp_ns, f.width, f.height, f.annotations, broken) for f in one.sequence.frames]
    found = page(one._replace(sequence=replace(one.sequence, frames=frames)))
    assert "its frames cannot be decoded" in found.words


def test_ground_truth_without_identities_is_shown() -> None:
    street = small_street(4)
    street = replace(street, frames=[replace(frame, annotations=()) for frame in street.frames])
    assert "The ground truth has no identity." in page(scene(street, follow(street))).words


def alone(tracks: list[int | None]) -> list[PreparedFrame]:
    """One person; the track that covers it in every frame. Track 99 is there too, and covers nobody."""
    person, overlaps = np.array([0]), np.array([[0.0, 0.9]])
    return [
        PreparedFrame(person, np.array([99] if one is None else [99, one]), overlaps[:, : 1 if one is None else 2])
        for one in tracks
    ]


def test_a_switch_weighs_the_shorter_of_its_two_lives() -> None:
    frames = alone([1] * 10 + [2] * 2 + [None] * 3 + [3] * 9)
    first, second = switch_moments(histories(frames, match_frames(frames)))
    assert (first.frames, first.tracks, first.weight) == ((9, 10), (1, 2), 2)
    assert (second.frames, second.tracks, second.weight) == ((11, 15), (2, 3), 2)
    long = alone([1] * 10 + [2] * 8)
    (heavy,) = switch_moments(histories(long, match_frames(long)))
    assert heavy.weight == 8
    assert worst([(0, first), (1, heavy), (0, second)], 2) == [(1, heavy), (0, first)]


def test_long_misses_and_long_false_tracks_are_moments() -> None:
    frames = alone([1] * 3 + [None] * 7 + [1] * 2 + [None] * 4)
    (missed,) = missed_moments(histories(frames, match_frames(frames)))
    assert (missed.frames, missed.weight) == ((6,), 7)
    apart = [PreparedFrame(np.array([0]), np.array([5]), np.zeros((1, 1)))] * 6
    (false,) = false_track_moments(apart, match_frames(apart))
    assert (false.tracks, false.frames, false.weight) == ((5,), (3,), 6)
    assert false_track_moments(apart[:4], match_frames(apart[:4])) == []


def test_a_timeline_is_bounded_and_keeps_those_in_trouble() -> None:
    people = MOST_ROWS + 15
    truth = np.arange(people)
    steady = PreparedFrame(truth, truth, np.eye(people))
    changed = PreparedFrame(truth, np.append(truth[:-1], 900), np.eye(people))
    frames = [steady] * 2500 + [changed] * 2500
    drawn = timeline(histories(frames, match_frames(frames)), len(frames))
    assert len(drawn.rows) == MOST_ROWS and drawn.hidden == 15
    assert [row.history.truth_id for row in drawn.rows if row.switches] == [people - 1]
    assert len(drawn.ticks) <= 11 and drawn.ticks[1][1] == 500


def test_flicker_too_short_to_be_seen_draws_nothing() -> None:
    frames = alone([1 if index % 3 else None for index in range(9000)])
    (row,) = timeline(histories(frames, match_frames(frames)), len(frames)).rows
    assert len(row.bars) == 2 and row.resumed == []
    few = alone([1, None, 1])
    (row,) = timeline(histories(few, match_frames(few)), 3).rows
    assert [(bar.first, bar.last, bar.track_id) for bar in row.bars] == [(0, 2, None), (0, 0, 1), (2, 2, 1)]
    assert row.resumed == [600.0]
    assert row.history.runs == (Run(0, 0, 1), Run(1, 1, None), Run(2, 2, 1))


@pytest.mark.parametrize(
    "box", [(10, 10, 30, 60), (0, 0, 4, 9), (300, 220, 330, 250), (-50, -50, 700, 700), (5, 5, 5, 5)]
)
def test_a_window_lies_in_the_image_and_holds_the_box(box: tuple[float, ...]) -> None:
    left, top, right, bottom = window(np.array([box], np.float64), (320, 240), 0.8)
    assert 0 <= left < right <= 320 and 0 <= top < bottom <= 240
    assert left <= max(box[0], 0) and right >= min(box[2], 320) and top <= max(box[1], 0) and bottom >= min(box[3], 240)
