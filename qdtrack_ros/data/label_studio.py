"""Label Studio's JSON export of labelled videos (``VideoRectangle``, https://labelstud.io/tags/videorectangle).

A task is a video; a region is an object, drawn at key frames counted from 1, in per cent of the picture. Between key
frames its box moves evenly. A key frame that is not ``enabled`` is the last one before the object goes; after the last
one, if it is enabled, the object stays to the end of the video. Frames are those of the rate that the labelling
configuration states (24 unless said otherwise, whatever the video has): where it is not the video's, they are refused.
"""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path, PureWindowsPath
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from qdtrack_ros.data._rows import (
    Faults,
    RowError,
    field,
    json_flag,
    json_integer,
    json_list,
    json_number,
    json_object,
    json_text,
    load_json,
)
from qdtrack_ros.data.media import VideoSource, is_video, video_frame
from qdtrack_ros.data.types import Annotation, DataError, Sequence

REGION = "videorectangle"
ROUNDED_FRAMES, ROUNDED_SHARE = 1.5, 0.02  # by which a browser's count of frames may be off: the duration is rounded
Box = tuple[float, float, float, float]


class _KeyFrame(NamedTuple):
    frame: int
    goes_on: bool
    box: Box


def read_label_studio(json_file: str | os.PathLike[str], videos: str | os.PathLike[str]) -> tuple[Sequence, ...]:
    """The labelled videos of an export, one sequence each, named after the video's file.

    Tasks that nobody has labelled are left out. Turned rectangles become the upright ones around them.

    Args:
        json_file: the export, of the format called JSON.
        videos: folder of the video files, under their own names or those that Label Studio gave them when they were
            uploaded (``1a2b3c4d-NAME``); or the one video file.

    Raises:
        DataError: the file is missing or is no such export, a video is missing, or regions are faulty (listed by task).
    """
    path = Path(json_file)
    content = load_json(path, "tasks with labelled videos, exported from Label Studio as JSON")
    if not isinstance(content, list):
        raise DataError(f"{path}: not a list of tasks; export from Label Studio as JSON")
    faults, sequences = Faults(path, "tasks and regions"), []
    for position, row in enumerate(content):
        place = f"task number {position + 1}"
        try:
            task = json_object(row, "task")
            place = f"task {task['id']}" if "id" in task else place
            regions = _regions(task)
            if regions is None:
                continue
            source = VideoSource(_video(task, Path(videos), single=len(content) == 1))
        except RowError as error:
            faults.add(f"{place}: {error}")
            continue
        frames = _annotations(regions, source, faults, place)
        bare = (video_frame(source, index, frames.get(index, ())) for index in range(source.count))
        sequences.append(Sequence(source.path.stem, tuple(bare), source.frame_rate, True))
    faults.close()
    if not sequences:
        raise DataError(f"{path}: none of {len(content)} tasks has a labelled video")
    return tuple(sequences)


def _regions(task: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """The regions of a task, None where nobody has labelled it; of several people's work that marked as the truth."""
    works = [json_object(work, "annotation") for work in field(task, "annotations", json_list)]
    works = [work for work in works if not work.get("was_cancelled")]
    chosen = [work for work in works if work.get("ground_truth")] or works
    if len(chosen) > 1:
        raise RowError(f"{len(chosen)} annotations, expected one, or one that is marked as ground truth")
    if not chosen:
        return None
    results = [json_object(result, "result") for result in field(chosen[0], "result", json_list)]
    return [result for result in results if result.get("type") == REGION]


def _video(task: Mapping[str, Any], videos: Path, single: bool) -> Path:
    """The file of a task's video."""
    if videos.is_file():
        if not single:
            raise RowError(f"{videos} is one video, but there are several tasks; name the folder of their videos")
        return videos
    texts = [text for text in field(task, "data", json_object).values() if isinstance(text, str)]
    names = [PureWindowsPath(name).name for text in texts for name in _named(text) if is_video(Path(name))]
    if not names:
        raise RowError("its data names no video file")
    names += [own for name in names if (own := name.partition("-")[2])]
    found = next((path for name in names if (path := videos / name).is_file()), None)
    if found is None:
        raise RowError(f"no video {' or '.join(dict.fromkeys(names))} in {videos}")
    return found


def _named(text: str) -> list[str]:
    """Paths that a text may be: itself, that of an address, and ``d`` of ``/data/local-files/?d=PATH``."""
    address = urlsplit(text)
    return [text, unquote(address.path), *parse_qs(address.query).get("d", [])]


def _annotations(
    regions: list[dict[str, Any]], source: VideoSource, faults: Faults, place: str
) -> dict[int, tuple[Annotation, ...]]:
    """Annotations of the frames that have any."""
    frames: defaultdict[int, list[Annotation]] = defaultdict(list)
    for identity, region in enumerate(regions, start=1):
        try:
            value = field(region, "value", json_object)
            labels = field(value, "labels", json_list)
            if len(labels) != 1:
                raise RowError(f"{len(labels)} labels, expected one")
            label = json_text(labels[0], "label")
            _check_rate(value, source)
            keys = [_key_frame(json_object(key, "key frame"), source) for key in field(value, "sequence", json_list)]
            for index, box in _boxes(sorted(keys), source.count):
                frames[index].append(Annotation(box, label, identity))
        except RowError as error:
            faults.add(f"{place}, region {region.get('id', identity)}: {error}")
    return {index: tuple(rows) for index, rows in frames.items()}


def _check_rate(value: Mapping[str, Any], source: VideoSource) -> None:
    """``RowError`` where the frames that were labelled are others than those of the video, by more than rounding."""
    if source.frame_rate is None or value.get("framesCount") is None or value.get("duration") is None:
        return
    counted, seconds = json_number(value["framesCount"], "framesCount"), json_number(value["duration"], "duration")
    expected = seconds * source.frame_rate
    if abs(counted - expected) > max(ROUNDED_FRAMES, ROUNDED_SHARE * expected):
        rate = counted / seconds if seconds > 0 else 0.0
        raise RowError(
            f"it was labelled at {rate:.4g} frames/s ({counted:g} frames in {seconds:g} s), {source.path.name} has "
            f"{source.frame_rate:.4g}: convert the video (ffmpeg -i {source.path.name} -r {rate:.4g} converted.mp4), "
            "and put it in the place of this one"
        )


def _key_frame(key: Mapping[str, Any], source: VideoSource) -> _KeyFrame:
    number = field(key, "frame", json_integer)
    if not 1 <= number <= source.count:
        raise RowError(f"frame is {number}, {source.path.name} has frames 1 to {source.count}")
    left, top, width, height = (field(key, name, json_number) for name in ("x", "y", "width", "height"))
    if width < 0 or height < 0:
        raise RowError(f"box is {width:g} wide and {height:g} high in frame {number}, expected 0 or more")
    turned = math.radians(json_number(key.get("rotation", 0), "rotation"))
    x, y = left * source.width / 100, top * source.height / 100
    w, h = width * source.width / 100, height * source.height / 100
    # clockwise about the left top corner, in pixels
    xs = [x + a * math.cos(turned) - b * math.sin(turned) for a in (0.0, w) for b in (0.0, h)]
    ys = [y + a * math.sin(turned) + b * math.cos(turned) for a in (0.0, w) for b in (0.0, h)]
    box = (min(xs), min(ys), max(xs), max(ys))
    return _KeyFrame(number - 1, field(key, "enabled", json_flag) if "enabled" in key else True, box)


def _boxes(keys: list[_KeyFrame], count: int) -> Iterator[tuple[int, Box]]:
    """Frame and box of an object wherever it is to be seen."""
    for key, following in zip(keys, [*keys[1:], None], strict=True):
        if following is not None and following.frame == key.frame:
            raise RowError(f"two key frames in frame {key.frame + 1}")
        yield key.frame, key.box
        if not key.goes_on:
            continue
        last = count if following is None else following.frame
        for index in range(key.frame + 1, last):
            share = 0.0 if following is None else (index - key.frame) / (following.frame - key.frame)
            after = key.box if following is None else following.box
            left, top, right, bottom = ((1 - share) * a + share * b for a, b in zip(key.box, after, strict=True))
            yield index, (left, top, right, bottom)
