"""The static form behind the engines' interface: pictures into fixed shapes, what runs them, detections out."""

from __future__ import annotations

import contextlib
import copy
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch

from qdtrack_ros.data.synthetic import street
from qdtrack_ros.inference.agreement import share_matched
from qdtrack_ros.inference.preprocess import PreprocessConfig, letterboxed_size, padded_size, resized, resized_size
from qdtrack_ros.inference.reference_engine import ReferenceEngine
from qdtrack_ros.inference.types import Detections, EngineError, EngineOutput
from qdtrack_ros.models.qdtrack import QDTrack
from qdtrack_ros.models.static import StaticQDTrack, Unpacked, unpack

log = logging.getLogger(__name__)

MAX_GRAPHS = 4  # for more input shapes than a few cameras have, such as a folder of stills, building takes too long

# What only a graph that computes something else misses: rounding moves scores by 1e-5, a threshold in the way or not.
_TRIAL_SHARE, _TRIAL_TOLERANCE = 0.9, 1e-2


class Graph(Protocol):
    """One shape of the static form, ready to run."""

    def run(self, images: npt.NDArray[np.uint8], sizes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Packed detections of uint8 [B, H, W, 3] and (height, width) [B, 2]; see ``StaticQDTrack.forward``.

        The result may be overwritten by the same thread's next call.
        """
        ...


class GraphPool:
    """Graphs that do the same with memory of their own: while one computes, another one copies in or out.

    Args:
        graphs: one for each thread that runs them at the same time; further threads wait.
    """

    def __init__(self, graphs: Sequence[Graph]) -> None:
        self._idle: queue.SimpleQueue[Graph] = queue.SimpleQueue()
        for graph in graphs:
            self._idle.put(graph)

    def run(self, images: npt.NDArray[np.uint8], sizes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """See :class:`Graph`."""
        graph = self._idle.get()
        try:
            return graph.run(images, sizes).copy()  # the next thread's call overwrites it
        finally:
            self._idle.put(graph)


GPU_STREAMS = 2
"""Pictures go to a GPU and results come from it while it computes others: what two buffers do, more do not better."""


def for_threads(make: Callable[[], Graph], threads: int) -> Graph:
    """A graph that so many threads may run at the same time, each with memory of its own."""
    return make() if threads == 1 else GraphPool([make() for _ in range(threads)])


class GraphBuilder(Protocol):
    """Makes graphs."""

    def __call__(self, form: StaticQDTrack, batches: Sequence[int], streams: int) -> Sequence[Graph]:
        """The graphs of a form, one for each size of a batch, to be run by so many threads at the same time."""
        ...


class Backend(NamedTuple):
    """What runs graphs.

    Attributes:
        name: as in an engine's name, e.g. ``openvino cpu fp32``.
        build: makes the graphs.
        device: where the graphs run.
        at_once: how many pictures of one shape a graph takes at most. None: any number, and fewer than it is made for.
        streams: how many threads may run a graph at the same time.
        pooling: the form's.
        dtype: the form's.
        trim: the form's.
    """

    name: str
    build: GraphBuilder
    device: torch.device = torch.device("cpu")
    at_once: int | None = 1
    streams: int = 1
    pooling: str = "roi_align"
    dtype: torch.dtype = torch.float32
    trim: bool = False


class _Loaded(NamedTuple):
    """A graph for some size of a batch, and inputs uint8 [B, H, W, 3] that no thread is using."""

    graph: Graph
    batch: int
    inputs: list[npt.NDArray[np.uint8]]


class _Slot(NamedTuple):
    """A picture's way through the network: its place in the batch, its resized size, the input's (height, width)."""

    picture: int
    size: tuple[int, int]
    canvas: tuple[int, int]


class StaticEngine:
    """The static form, a graph for each of the first few shapes of input that come up.

    What the graphs are not made for goes through the reference form on the same device, with a warning: a picture whose
    graph says that its result is not exact, which takes a crowd of boxes beyond its limits, and one of further shapes.

    Args:
        network: with its weights.
        model_id: hash of the weights.
        config: input.
        backend: what runs the graphs.
        input_size: (width, height) of the network's input, into which all pictures are fitted. None: that of each
            picture, padded as little as it must be; a new size costs the time to build a graph.
    """

    def __init__(
        self,
        network: QDTrack,
        model_id: str,
        config: PreprocessConfig,
        backend: Backend,
        input_size: tuple[int, int] | None = None,
    ) -> None:
        check_padding(config)
        self._network: QDTrack | None = network.eval().requires_grad_(False)
        self._config = config
        self._backend = backend
        self._canvas = None
        if input_size is not None:
            self._canvas = padded_size(input_size[1], input_size[0], config.pad_multiple)
        self._loaded: dict[tuple[int, int], dict[int, _Loaded]] = {}  # by (height, width) and batch
        self._expected = 1
        self._is_warm = False
        self._lock = threading.Lock()  # around what is built when it is first needed
        self._reference: ReferenceEngine | None = None
        self._warned: set[str] = set()
        self.inexact_pictures = 0
        self.model_id = model_id
        self.embedding_dim = network.config.embedding_dim
        self.at_once, self.streams = backend.at_once, backend.streams
        self.name = f"{backend.name} static"

    def detect(self, images: Sequence[npt.NDArray[np.uint8]]) -> EngineOutput:
        """See :class:`Engine`."""
        groups: dict[tuple[int, int], list[_Slot]] = {}
        for index, image in enumerate(images):
            slot = self._slot(index, image.shape[0], image.shape[1])
            groups.setdefault(slot.canvas, []).append(slot)
        found: list[Detections] = [Detections.empty(self.embedding_dim)] * len(images)
        times = np.zeros(3)
        for group in groups.values():
            for part in _parts(group, self.at_once):
                times += self._detect(images, part, found)
        return EngineOutput(found, *(float(part) for part in 1e3 * times))

    def warmup(self, pictures: int = 1, threads: int = 1) -> None:
        """Run on blank pictures of the size that the preset resizes to; others build their graphs when they come.

        Args:
            pictures: how many will come in one call, at most. Whenever graphs are built from now on, that for so many
                is among them.
            threads: how many will call at the same time, at most.
        """
        self.streams = min(self._backend.streams, threads)
        self._expected = min(self._backend.at_once or pictures, pictures)
        width, height = self._config.image_scale if self._canvas is None else (self._canvas[1], self._canvas[0])
        if (width, height) != (0, 0):
            for batch in [1, self._expected] * self.streams:  # by turns, so that each thread's memory is there
                self.detect([np.zeros((height, width, 3), np.uint8)] * batch)
        self._is_warm = True

    def close(self) -> None:
        """Drop the network and the graphs, and free the device's cache."""
        self._network = self._reference = None
        self._loaded.clear()
        if self._backend.device.type == "cuda":
            torch.cuda.empty_cache()

    def _slot(self, index: int, height: int, width: int) -> _Slot:
        if self._canvas is not None:
            return _Slot(index, letterboxed_size(height, width, self._config, self._canvas), self._canvas)
        size = resized_size(height, width, self._config.image_scale)
        return _Slot(index, size, padded_size(*size, self._config.pad_multiple))

    def _detect(
        self, images: Sequence[npt.NDArray[np.uint8]], slots: Sequence[_Slot], found: list[Detections]
    ) -> npt.NDArray[np.float64]:
        """Fill in the detections of pictures of one shape; seconds of preparing, inference and the rest."""
        # What is there is not waited for: one camera's new size would hold up all others for as long as a graph takes.
        loaded = self._loaded.get(slots[0].canvas, {}).get(len(slots))
        if loaded is None:
            with self._lock:
                loaded = self._graph(slots[0].canvas, len(slots))
        if loaded is None:
            return self._detect_shapeless(images, slots, found)
        start = time.perf_counter()
        canvas = slots[0].canvas
        try:
            batch = loaded.inputs.pop()
        except IndexError:
            batch = np.zeros((loaded.batch, *canvas, 3), np.uint8)
        sizes = np.full((loaded.batch, 2), canvas, np.float32)  # a place without a picture gives a result for nobody
        for place, size, slot in zip(batch, sizes, slots, strict=False):
            place[: slot.size[0], : slot.size[1]] = resized(images[slot.picture], slot.size)
            size[:] = slot.size
        prepared = time.perf_counter()
        packed = loaded.graph.run(batch, sizes)
        inferred = time.perf_counter()
        loaded.inputs.append(batch)
        for slot, one in zip(slots, unpack(torch.from_numpy(packed)), strict=False):
            image = images[slot.picture]
            if not one.finite:
                found[slot.picture] = _not_finite(self.embedding_dim)
            elif not one.exact:
                found[slot.picture] = self._inexact(image)
            else:
                factors = np.array([slot.size[1] / image.shape[1], slot.size[0] / image.shape[0]] * 2, np.float32)
                detections = slots_in_use(one)
                found[slot.picture] = detections._replace(boxes=(detections.boxes / factors).astype(np.float32))
        return np.array([prepared - start, inferred - prepared, time.perf_counter() - inferred])

    def _graph(self, canvas: tuple[int, int], pictures: int) -> _Loaded | None:
        """What runs some pictures in an input of (height, width); None for a shape too many."""
        if self._network is None:
            raise EngineError("the engine is closed; create a new one")
        if canvas not in self._loaded and len(self._loaded) >= MAX_GRAPHS:
            return None
        loaded = self._loaded.setdefault(canvas, {})
        larger = [batch for batch in loaded if batch > pictures > 1]
        if pictures not in loaded and larger:
            return loaded[min(larger)]
        if pictures not in loaded:
            if self._is_warm:
                log.info("%s: the first picture for an input of %d x %d, which takes seconds", self.name, *canvas[::-1])
            backend = self._backend
            form = static_form(self._network, self._config, canvas, backend.pooling, backend.dtype, backend.trim)
            batches = sorted({1, self._expected, pictures} - set(loaded))
            for batch, graph in zip(batches, backend.build(form, batches, self.streams), strict=True):
                loaded[batch] = _Loaded(graph, batch, [])
        return loaded[pictures]

    def _detect_shapeless(
        self, images: Sequence[npt.NDArray[np.uint8]], slots: Sequence[_Slot], found: list[Detections]
    ) -> npt.NDArray[np.float64]:
        self._warn_once("pictures come in more sizes than it builds graphs for; further sizes go")
        times = np.zeros(3)
        for slot in slots:
            output = self._reference_form().detect([images[slot.picture]])
            found[slot.picture] = output.detections[0]
            times += (output.preprocess_ms, output.inference_ms, output.postprocess_ms)
        return times / 1e3

    def _inexact(self, image: npt.NDArray[np.uint8]) -> Detections:
        self._warn_once("a picture has more overlapping boxes than the static form is exact for; such pictures go")
        with self._lock:
            self.inexact_pictures += 1
        return self._reference_form().detect([image]).detections[0]

    def _reference_form(self) -> ReferenceEngine:
        with self._lock:
            if self._reference is None:
                assert self._network is not None
                device = self._backend.device
                network = self._network if device.type == "cpu" else copy.deepcopy(self._network)
                self._reference = ReferenceEngine(network, self.model_id, self._config, device)
            return self._reference

    def _warn_once(self, what: str) -> None:
        if what not in self._warned:
            self._warned.add(what)
            log.warning("%s: %s through the reference form", self.name, what)


def fault_on_trial(network: QDTrack, config: PreprocessConfig, backend: Backend) -> str:
    """Why the static form cannot be relied on with a backend on this machine; empty where it can.

    A small drawn street goes through it and through the reference form on the same device, in about a second.

    Args:
        network: with its weights, on the CPU.
        config: input; pictures are not resized here.
        backend: what runs the graphs.
    """
    config = replace(config, image_scale=(0, 0))
    picture = street(1, (320, 256)).frames[0].load()
    reference = ReferenceEngine(copy.deepcopy(network), "", config, backend.device)
    (expected,) = reference.detect([picture]).detections
    reference.close()
    try:
        with contextlib.closing(StaticEngine(network, "", config, backend)) as static:
            (found,) = static.detect([picture]).detections
    except Exception as error:  # settings without a static form, or whatever a driver or a library comes up with
        return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
    share = share_matched(found, expected, _TRIAL_TOLERANCE)
    if share < _TRIAL_SHARE:
        return f"{share:.0%} of the detections on a drawn street are those of the reference form"
    return ""


def _parts(group: Sequence[_Slot], at_once: int | None) -> list[Sequence[_Slot]]:
    """What runs together of the pictures of one shape; see :class:`Backend`."""
    size = at_once or len(group)
    return [group[at : at + size] for at in range(0, len(group), size)]


def check_padding(config: PreprocessConfig) -> None:
    """Refuse settings that a static form cannot be made for.

    Raises:
        EngineError: the network's input is padded to what is no multiple of its largest stride.
    """
    if config.pad_multiple % 32:
        raise EngineError(f"the static form pads to multiples of 32, the preset to {config.pad_multiple}")


def static_form(
    network: QDTrack,
    config: PreprocessConfig,
    input_size: tuple[int, int],
    pooling: str = "roi_align",
    dtype: torch.dtype = torch.float32,
    trim: bool = False,
) -> StaticQDTrack:
    """The static form of a network for pictures prepared like this, and an input of (height, width)."""
    bgr = config.channel_order == "bgr"
    return StaticQDTrack(network, input_size, config.mean, config.std, bgr, pooling, dtype=dtype, trim=trim).eval()


def slots_in_use(one: Unpacked) -> Detections:
    """The detections of an image, in pixels of the network's input, as arrays of their own."""
    used = int((one.scores > 0).sum())
    boxes, scores, embeddings = (part[:used].numpy().copy() for part in (one.boxes, one.scores, one.embeddings))
    return Detections(boxes, scores, one.labels[:used].long().numpy(), embeddings)


def _not_finite(embedding_dim: int) -> Detections:
    """What the reference form gives for a network that overflows: nothing at all would pass for an empty street."""
    nan = np.float32("nan")
    return Detections(np.full((1, 4), nan), np.full(1, nan), np.zeros(1, np.int64), np.full((1, embedding_dim), nan))
