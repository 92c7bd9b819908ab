from __future__ import annotations

import numpy as np

from qdtrack_ros.data.synthetic import street


def test_the_same_seed_gives_the_same_video() -> None:
    first, again, other = (street(3, (192, 144), seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first.frames[2].load(), again.frames[2].load())
    assert first.frames[2].annotations == again.frames[2].annotations
    assert not np.array_equal(first.frames[2].load(), other.frames[2].load())


def test_people_stand_where_their_boxes_are() -> None:
    with_people, empty = street(1, (384, 288), walkers=5), street(1, (384, 288), walkers=0)
    changed = np.abs(with_people.frames[0].load().astype(int) - empty.frames[0].load()).max(axis=2) > 20
    assert changed.any()
    annotations = with_people.frames[0].annotations
    assert len(annotations) == 5
    inside = np.zeros_like(changed)
    for annotation in annotations:
        left, top, right, bottom = (round(v) for v in annotation.box)
        assert changed[top:bottom, left:right].mean() > 0.25
        inside[max(top - 3, 0) : bottom + 8, max(left - 8, 0) : right + 8] = True
    assert not (changed & ~inside).any()


def test_people_walk_and_leave() -> None:
    sequence = street(600, (192, 144))
    first = {a.instance_id: a.box for a in sequence.frames[0].annotations}
    later = {a.instance_id: a.box for a in sequence.frames[10].annotations}
    assert all(first[number][0] != later[number][0] for number in set(first) & set(later))
    assert len(sequence.frames[599].annotations) < len(first)
    assert sequence.frames[10].timestamp_ns == 1_000_000_000
