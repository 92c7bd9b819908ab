"""What turns frames into tracks: decode, batch, detect, associate, publish.

The work is cut in two halves, with threads of their own: while one batch is associated and published, the next one is
in the network. As many threads work on the first half as the engine has streams. None of them takes a batch before it
can go into the network: frames prepared earlier would only have grown older. And none takes a frame of a camera of
which another one has a frame: those of a camera stay in their order.
"""

from __future__ import annotations

import contextlib
import enum
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from qdtrack_ros.data.image_errors import ImageError, ImageFault
from qdtrack_ros.inference.types import Detections, Engine, EngineOutput
from qdtrack_ros.node.camera import Camera, DecodedImage, FrameResult, ReceivedFrame
from qdtrack_ros.node.clock_guard import StampCheck, Verdict
from qdtrack_ros.node.frame_timing import FrameTimes
from qdtrack_ros.node.mailbox import DEACTIVATED, MailboxCounts, wait_for_frames
from qdtrack_ros.node.session import TrackedFrame
from qdtrack_ros.node.settings import RuntimeSettings

OUT_OF_ORDER = "out_of_order"
ENGINE_FAILED = "engine_failed"
NOT_FINITE = "not_finite"
PUBLISH_FAILED = "publish_failed"

# One failure may be a passing shortage of memory; a second batch in a row of which nothing came through is not. It may
# still be the pictures of one camera, where those of another came through shortly before: then that one is tried first.
_FAILURES_IN_A_ROW = 2


class Severity(enum.Enum):
    """How much a report matters."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class WorkerOutputs(Protocol):
    """Where results go. Called from the worker's threads only; all but `report` from one at a time."""

    def publish(self, camera: Camera, result: FrameResult) -> None:
        """Publish the tracks of a processed frame."""
        ...

    def publish_times(self, camera: Camera, result: FrameResult, times: FrameTimes, counts: MailboxCounts) -> None:
        """Publish where its time went; comes last."""
        ...

    def report(self, severity: Severity, kind: str, text: str) -> None:
        """Tell the user about a fault or an event."""
        ...

    def failed(self, reason: str) -> None:
        """The worker has stopped for good: the engine failed, or the worker itself."""
        ...


class _Job(NamedTuple):
    camera: Camera
    frame: ReceivedFrame
    image: DecodedImage
    taken_s: float
    decode_ms: float


class _Detected(NamedTuple):
    """What the first half of the work on a batch gives to the second.

    Attributes:
        found: frames with their detections, the output of the engine's call, and how many frames shared it.
        failed: cameras of the frames that the engine failed on, and why.
    """

    found: list[tuple[_Job, Detections, EngineOutput, int]]
    failed: list[tuple[Camera, str]]


class FrameWorker:
    """Serves all cameras with one engine.

    Args:
        cameras: their mailboxes share one condition.
        engine: detects on batches.
        outputs: gets results, reports and the final failure.
        settings: gives the current settings; asked once a batch.
        state_lock: held while a tracker steps; whoever resets, saves or reconfigures a camera holds it too.
    """

    def __init__(
        self,
        cameras: Sequence[Camera],
        engine: Engine,
        outputs: WorkerOutputs,
        settings: Callable[[], RuntimeSettings],
        state_lock: threading.Lock,
    ) -> None:
        self._cameras = list(cameras)
        self._engine = engine
        self._outputs = outputs
        self._settings = settings
        self._state_lock = state_lock
        self._stop = threading.Event()
        self._failures = 0  # batches in a row of which nothing came through
        self._failing: set[str] = set()  # their cameras
        self._came_through_s: dict[str, float] = {}  # when a camera's picture last came through, by the monotonic clock
        self._condition = self._cameras[0].mailbox.condition
        self._in_network: set[int] = set()  # cameras, by their place
        self._handed_over: queue.Queue[_Detected | None] = queue.Queue()  # None: a thread of the first half has ended
        self._giving_up = threading.Lock()
        self._streams = min(engine.streams, len(self._cameras))
        self._threads = [
            threading.Thread(target=run, name=name, daemon=True)
            for run, name in [
                *[(self._run_detection, "qdtrack_detection")] * self._streams,
                (self._run_tracking, "qdtrack_tracking"),
            ]
        ]

    def start(self) -> None:
        """Begin to serve."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End after the batches in work, and drop what still waits (counted). Not from the worker's own threads."""
        self._stop.set()
        with self._condition:
            self._condition.notify_all()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()
        for camera in self._cameras:
            camera.mailbox.discard(DEACTIVATED)

    def _run_detection(self) -> None:
        try:
            while not self._stop.is_set():
                with self._frames_taken() as taken:
                    detected = self._detect_all(taken)
                    self._handed_over.join()  # no batch waits between the halves
                    self._handed_over.put(detected)
        except Exception as error:  # without its worker the node would look alive and track nothing
            self._give_up(f"the worker failed: {type(error).__name__}: {error}")
        finally:
            self._handed_over.put(None)

    def _run_tracking(self) -> None:
        running = self._streams
        while running:
            detected = self._handed_over.get()
            try:
                if detected is None:
                    running -= 1
                else:
                    self._finish_all(detected)
            except Exception as error:
                self._give_up(f"the worker failed: {type(error).__name__}: {error}")
            finally:
                self._handed_over.task_done()

    def _give_up(self, reason: str) -> None:
        with self._giving_up:
            first = not self._stop.is_set()
            self._stop.set()
        if first:
            self._outputs.failed(reason)

    def process(self, taken: Sequence[tuple[Camera, ReceivedFrame]]) -> None:
        """Process one batch of frames taken from the mailboxes; each is settled before this returns."""
        self._finish_all(self._detect_all(taken))

    @contextlib.contextmanager
    def _frames_taken(self) -> Iterator[list[tuple[Camera, ReceivedFrame]]]:
        """Wait for frames, and take no more than the engine gains from; their cameras are this thread's within."""
        settings = self._settings()
        mailboxes = [camera.mailbox for camera in self._cameras]
        waits = (settings.batch_wait_s, settings.stale_after_s)
        with self._condition:
            taken = wait_for_frames(mailboxes, self._stop, *waits, self._engine.at_once, self._in_network)
            indices = {index for index, _ in taken}
            self._in_network |= indices
        try:
            yield [(self._cameras[index], frame) for index, frame in taken]
        finally:
            with self._condition:
                self._in_network -= indices
                self._condition.notify_all()

    def _detect_all(self, taken: Sequence[tuple[Camera, ReceivedFrame]]) -> _Detected:
        """The first half: everything up to the network's answer. What gives none is dropped here."""
        settings = self._settings()
        decoded = [job for camera, frame in taken if (job := self._decode(camera, frame, settings)) is not None]
        jobs = [job for job in decoded if not self._drop_late(job)]
        return self._detect(jobs) if jobs else _Detected([], [])

    def _finish_all(self, detected: _Detected) -> None:
        """The second half: associate and publish; give up when nothing comes through the engine any more."""
        if not detected.found and not detected.failed:
            return
        settings = self._settings()
        failed = list(detected.failed)
        for one in detected.found:
            camera = one[0].camera
            if reason := self._finish(*one, settings):
                failed.append((camera, reason))
            else:
                self._came_through_s[camera.name] = time.monotonic()
        if len(failed) < len(detected.found) + len(detected.failed):
            self._failures = 0
            self._failing.clear()
            return
        self._failures += 1
        self._failing |= {camera.name for camera, _ in failed}
        if self._failures >= _FAILURES_IN_A_ROW and not self._others_may_work(settings):
            self._give_up(f"{failed[-1][1]}, {self._failures} times in a row")

    def _others_may_work(self, settings: RuntimeSettings) -> bool:
        """Whether a camera that has not failed since the failures began is in the network, or came through lately."""
        since_s = time.monotonic() - settings.stale_after_s
        lately = {name for name, at_s in self._came_through_s.items() if at_s > since_s}
        with self._condition:
            in_network = {self._cameras[index].name for index in self._in_network}
        return bool((lately | in_network) - self._failing)

    def _detect(self, jobs: Sequence[_Job]) -> _Detected:
        output = self._call_engine(jobs)
        if isinstance(output, EngineOutput):
            answers = zip(jobs, output.detections, strict=True)
            return _Detected([(job, detections, output, len(jobs)) for job, detections in answers], [])
        free_device_cache()
        if len(jobs) == 1:
            self._drop(jobs[0].camera, ENGINE_FAILED, output, Severity.ERROR)
            return _Detected([], [(jobs[0].camera, output)])
        # One camera's picture may have broken it for all of them, and a single one needs the least memory.
        text = f"{output}; the frames of {len(jobs)} cameras are tried one by one"
        self._outputs.report(Severity.WARNING, "batch failed", text)
        singly = [self._detect([job]) for job in jobs]
        found = [one for detected in singly for one in detected.found]
        return _Detected(found, [one for detected in singly for one in detected.failed])

    def _decode(self, camera: Camera, frame: ReceivedFrame, settings: RuntimeSettings) -> _Job | None:
        taken_s = time.perf_counter()
        try:
            image = camera.decode(frame.payload, settings.max_image_pixels)
        except ImageError as error:
            self._drop(camera, error.kind.value, str(error))
            return None
        except Exception as error:  # what comes from the network must not end the thread, whatever it is
            self._drop(camera, ImageFault.UNDECODABLE.value, f"{type(error).__name__}: {error}")
            return None
        news = camera.note_image(image)
        if news:  # a change soon after the first image is not held back as more of the same
            kind = f"{camera.name}:{'first image' if news.startswith('first image') else 'size'}"
            self._outputs.report(Severity.INFO, kind, f"camera {camera.name}: {news}")
        return _Job(camera, frame, image, taken_s, 1e3 * (time.perf_counter() - taken_s))

    def _drop_late(self, job: _Job) -> bool:
        """Drop a frame that its camera's guard will not have, before the network runs for it."""
        with self._state_lock:
            late = job.camera.guard.is_late(job.image.stamp_ns)
            if late:
                job.camera.guard.check(job.image.stamp_ns)
        if late:
            self._tell_late(job)
        return late

    def _tell_late(self, job: _Job) -> None:
        stamp_s = job.image.stamp_ns / 1e9
        self._drop(job.camera, OUT_OF_ORDER, f"stamp {stamp_s:.6f} s is older than that of the frame before: dropped")

    def _call_engine(self, jobs: Sequence[_Job]) -> EngineOutput | str:
        """What the engine says, or why it failed.

        The error itself stays here: its traceback would keep the tensors of the failed call alive.
        """
        try:
            output = self._engine.detect([job.image.pixels for job in jobs])
            if len(output.detections) != len(jobs):
                raise RuntimeError(f"the engine gave {len(output.detections)} results for {len(jobs)} images")
        except Exception as error:  # an engine may raise anything: out of memory, a lost device, a driver's error
            return self._failure(error)
        return output

    def _failure(self, error: Exception) -> str:
        text = " ".join(str(error).split())  # libraries give several lines; a log message and a diagnostic are one
        return f"the engine {self._engine.name} failed: {type(error).__name__}: {text}"

    def _finish(
        self, job: _Job, detections: Detections, output: EngineOutput, batch_size: int, settings: RuntimeSettings
    ) -> str:
        """Associate and publish; why the engine's answer is unusable, empty when it is not."""
        camera = job.camera
        begin_s = time.perf_counter()
        try:
            check, tracked = self._associate(job, self._checked(camera, detections, settings), settings)
        except Exception as error:  # malformed output: another fault of the engine; the tracker is as it was
            reason = self._failure(error)
            self._drop(camera, ENGINE_FAILED, reason, Severity.ERROR)
            return reason
        if check.warning:
            text = f"camera {camera.name}: {check.warning}"
            camera.note_fault(check.kind, text)
            self._outputs.report(Severity.WARNING, f"{camera.name}:{check.kind}", text)
        if tracked is None:
            self._tell_late(job)
            return ""
        associated_s = time.perf_counter()
        counts = camera.mailbox.processed()
        result = FrameResult(job.image, tracked, camera.note_processed(counts))
        self._publish(job, result, output, counts, (begin_s, associated_s), batch_size)
        return ""

    def _associate(
        self, job: _Job, detections: Detections, settings: RuntimeSettings
    ) -> tuple[StampCheck, TrackedFrame | None]:
        """Step the camera's tracker, in a new session if the stamps ask for it; None for a frame that is late now."""
        camera = job.camera
        with self._state_lock:
            check = camera.guard.check(job.image.stamp_ns)
            if check.verdict is Verdict.DROP:
                return check, None
            if check.verdict is Verdict.RESET:
                camera.session.reset()
            return check, camera.session.step(detections, check.tracker_ns, settings.confirm_hits)

    def _publish(
        self,
        job: _Job,
        result: FrameResult,
        output: EngineOutput,
        counts: MailboxCounts,
        association_s: tuple[float, float],
        batch_size: int,
    ) -> None:
        camera, frame = job.camera, job.frame
        begin_s, associated_s = association_s
        try:
            self._outputs.publish(camera, result)
            published_s = time.perf_counter()
            stamp_ns = job.image.stamp_ns
            times = FrameTimes(
                transport=(frame.arrived_ns - stamp_ns) / 1e6 if stamp_ns and frame.arrived_ns else float("nan"),
                queue_wait=1e3 * (job.taken_s - frame.arrived_s),
                preprocess=job.decode_ms + output.preprocess_ms,
                inference=output.inference_ms,
                postprocess=output.postprocess_ms,
                association=1e3 * (associated_s - begin_s),
                publish=1e3 * (published_s - associated_s),
                total=1e3 * (published_s - frame.arrived_s),
                batch_size=batch_size,
            )
            camera.note_times(times)
            self._outputs.publish_times(camera, result, times, counts)
        except Exception as error:  # one frame that cannot be published must not end the thread
            text = f"camera {camera.name}: publishing failed: {type(error).__name__}: {error}"
            camera.note_fault(PUBLISH_FAILED, text)
            self._outputs.report(Severity.ERROR, f"{camera.name}:{PUBLISH_FAILED}", text)

    def _checked(self, camera: Camera, detections: Detections, settings: RuntimeSettings) -> Detections:
        """Nothing at all where the network gave NaN or infinity; else the detections of the wanted classes."""
        if not all(np.isfinite(part).all() for part in (detections.boxes, detections.scores, detections.embeddings)):
            text = f"camera {camera.name}: the network gave NaN or infinite values; the frame counts as empty"
            camera.note_fault(NOT_FINITE, text)
            self._outputs.report(Severity.ERROR, f"{camera.name}:{NOT_FINITE}", text)
            return Detections.empty(self._engine.embedding_dim)
        if settings.class_indices is None:
            return detections
        wanted = np.isin(detections.labels, list(settings.class_indices))
        boxes, scores, labels, embeddings = detections
        return Detections(boxes[wanted], scores[wanted], labels[wanted], embeddings[wanted])

    def _drop(self, camera: Camera, kind: str, text: str, severity: Severity = Severity.WARNING) -> None:
        camera.mailbox.dropped(kind)
        text = f"camera {camera.name}: {text}"
        camera.note_fault(kind, text)
        self._outputs.report(severity, f"{camera.name}:{kind}", text)


def free_device_cache() -> None:
    """Give cached GPU memory back, where PyTorch is in use at all."""
    torch = sys.modules.get("torch")
    if torch is not None:
        with contextlib.suppress(Exception):  # a lost device answers every call with an error
            if torch.cuda.is_initialized():
                torch.cuda.empty_cache()
