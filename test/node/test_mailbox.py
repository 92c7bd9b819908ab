"""The newest frame wins, and received = processed + dropped, always."""

from __future__ import annotations

import threading

import pytest

from qdtrack_ros.node.mailbox import DEACTIVATED, OVERWRITTEN, Mailbox, wait_for_frames


def test_the_newest_frame_wins():
    box: Mailbox[int] = Mailbox()
    assert box.put(1) is False
    assert box.put(2) is True
    assert box.take() == 2
    assert box.take() is None
    counts = box.processed()
    assert (counts.received, counts.processed, counts.dropped) == (2, 1, 1)
    assert counts.reasons == {OVERWRITTEN: 1}


def test_a_frame_counts_when_its_fate_is_decided():
    box: Mailbox[str] = Mailbox()
    box.put("a")
    assert box.counts().received == 0
    box.take()
    assert box.counts().received == 0
    box.put("b")
    assert box.dropped("truncated").reasons == {"truncated": 1}
    assert box.counts().received == 1
    assert box.discard(DEACTIVATED) is True
    assert box.discard(DEACTIVATED) is False
    assert box.counts() == (2, 0, 2, {"truncated": 1, DEACTIVATED: 1})


def test_a_frame_is_settled_once():
    box: Mailbox[int] = Mailbox()
    box.put(1)
    box.take()
    box.processed()
    with pytest.raises(RuntimeError, match="exactly once"):
        box.dropped("again")


def test_the_counts_hold_at_every_moment_and_lose_nothing():
    box: Mailbox[int] = Mailbox()
    stop = threading.Event()
    wrong: list[object] = []
    seen: list[int] = []
    frames = 5000

    def serve() -> None:
        while True:
            for _, frame in wait_for_frames([box], stop):
                seen.append(frame)
                box.processed() if frame % 3 else box.dropped("undecodable")
            if stop.is_set():
                return

    def watch() -> None:
        while not stop.is_set():
            counts = box.counts()
            if counts.received != counts.processed + counts.dropped or counts.dropped != sum(counts.reasons.values()):
                wrong.append(counts)

    threads = [threading.Thread(target=serve), threading.Thread(target=watch)]
    for thread in threads:
        thread.start()
    for frame in range(frames):
        box.put(frame)
    stop.set()
    with box.condition:
        box.condition.notify_all()
    for thread in threads:
        thread.join()
    box.discard(DEACTIVATED)
    assert not wrong
    assert seen == sorted(set(seen))
    counts = box.counts()
    assert counts.received == frames
    assert counts.processed == sum(1 for frame in seen if frame % 3)


def test_a_batch_takes_one_frame_of_each_ready_camera():
    condition = threading.Condition()
    boxes = [Mailbox[str](condition) for _ in range(3)]
    boxes[0].put("a")
    boxes[2].put("old")
    boxes[2].put("c")
    assert wait_for_frames(boxes, threading.Event()) == [(0, "a"), (2, "c")]


def test_the_batch_waits_for_a_late_camera_no_longer_than_told():
    condition = threading.Condition()
    boxes = [Mailbox[str](condition) for _ in range(2)]
    boxes[0].put("a")
    joins = threading.Timer(0.05, boxes[1].put, ["b"])
    joins.start()
    assert wait_for_frames(boxes, threading.Event(), batch_wait_s=60.0) == [(0, "a"), (1, "b")]
    joins.join()
    boxes[0].put("c")
    assert wait_for_frames(boxes, threading.Event(), batch_wait_s=0.01) == [(0, "c")]


def test_a_silent_camera_is_not_waited_for():
    condition = threading.Condition()
    boxes = [Mailbox[str](condition) for _ in range(2)]
    taken: list[list[tuple[int, str]]] = []

    def take() -> None:
        taken.append(wait_for_frames(boxes, threading.Event(), batch_wait_s=1e6, silent_after_s=0.0))

    for frames in (["a"], ["b", "of long ago, but there"]):
        for box, frame in zip(boxes, frames, strict=False):
            box.put(frame)
        thread = threading.Thread(target=take, daemon=True)
        thread.start()
        thread.join(timeout=60)
    assert taken == [[(0, "a")], [(0, "b"), (1, "of long ago, but there")]]


def test_those_that_have_waited_longest_come_first():
    condition = threading.Condition()
    boxes = [Mailbox[str](condition) for _ in range(3)]
    for index in (2, 0, 1):
        boxes[index].put("old")
        boxes[2].put("newer")  # takes over the place in the queue, too
    assert wait_for_frames(boxes, threading.Event(), batch_wait_s=60.0, at_most=2) == [(0, "old"), (2, "newer")]
    boxes[0].put("next")
    assert wait_for_frames(boxes, threading.Event(), at_most=1) == [(1, "old")]
    assert wait_for_frames(boxes, threading.Event(), at_most=1) == [(0, "next")]


def test_stopping_ends_the_wait():
    box: Mailbox[int] = Mailbox()
    stop = threading.Event()
    result: list[list[tuple[int, int]]] = []
    thread = threading.Thread(target=lambda: result.append(wait_for_frames([box], stop)))
    thread.start()
    stop.set()
    with box.condition:
        box.condition.notify_all()
    thread.join(timeout=30)
    assert result == [[]]


def test_mailboxes_of_different_workers_are_refused():
    with pytest.raises(ValueError, match="share one condition"):
        wait_for_frames([Mailbox(), Mailbox()], threading.Event())
