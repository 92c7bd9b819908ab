"""A foreign node as a user would write it: sends images, keeps whatever comes back, calls services."""

from __future__ import annotations

import array
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.srv import ChangeState, GetState
from qdtrack_ros.msg import FrameTiming, TrackArray
from rcl_interfaces.srv import GetParameters, SetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.task import Future
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from std_srvs.srv import Trigger
from vision_msgs.msg import Detection2DArray

from qdtrack_ros.node.messages import time_message

PATIENCE_S = 120.0  # a limit for what never comes, generous for a busy machine
S = 1_000_000_000
HEIGHT, WIDTH = 60, 80
RED, GREEN, BLUE, YELLOW = (0, 0, 255), (0, 255, 0), (255, 0, 0), (0, 255, 255)
RELIABLE = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)


class FrameOutputs(NamedTuple):
    """The three messages of one processed frame."""

    detections: Detection2DArray
    tracks: TrackArray
    timing: FrameTiming


def picture(objects: dict[tuple[int, int, int], tuple[int, int, int, int]], corner: tuple[int, int, int] = (9, 9, 9)):
    """A dark picture with filled boxes (xyxy) by colour; `corner` is the colour of its first pixel."""
    pixels = np.full((HEIGHT, WIDTH, 3), 9, np.uint8)
    for colour, (left, top, right, bottom) in objects.items():
        pixels[top:bottom, left:right] = colour
    pixels[0, 0] = corner
    return pixels


def image(stamp_ns: int, pixels: np.ndarray | None = None, **fields: Any) -> Image:
    """A picture as a message; `fields` spoil it."""
    pixels = picture({}) if pixels is None else pixels
    height, width = pixels.shape[:2]
    values = {"height": height, "width": width, "encoding": "bgr8", "step": 3 * width, **fields}
    data = values.pop("data", pixels.tobytes())
    header = Header(stamp=time_message(stamp_ns), frame_id=values.pop("frame_id", "optical frame/ä"))
    return Image(header=header, data=array.array("B", data), **values)


class RosClient:
    """Client of one camera of the node.

    Args:
        camera: prefix of the topics.
        compressed: send CompressedImage.
        reliable: QoS of the images.
        of_node: the node's name.
    """

    def __init__(
        self, camera: str = "camera", compressed: bool = False, reliable: bool = True, of_node: str = "qdtrack"
    ) -> None:
        self._of_node = of_node
        self._context = rclpy.Context()
        rclpy.init(args=[], context=self._context)
        self.node = Node(f"client_of_{camera.replace('/', '_')}", context=self._context, use_global_arguments=False)
        self.received: dict[str, list[Any]] = {}
        self._lock = threading.Lock()
        kind, suffix = (CompressedImage, "image_raw/compressed") if compressed else (Image, "image_raw")
        policy = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
        self._images = self.node.create_publisher(kind, f"{camera}/{suffix}", QoSProfile(depth=20, reliability=policy))
        self.camera = camera
        self.subscribe(Detection2DArray, f"{camera}/detections")
        self.subscribe(TrackArray, f"{camera}/tracks")
        self.subscribe(FrameTiming, f"{camera}/timing")
        self.subscribe(DiagnosticArray, "/diagnostics")
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Leave the graph."""
        self._stop.set()
        self._thread.join()
        self._executor.remove_node(self.node)
        self.node.destroy_node()
        rclpy.shutdown(context=self._context)

    def subscribe(self, kind: Any, topic: str, latched: bool = False) -> Any:
        """Collect the messages of a topic in `received`."""
        self.received[topic] = []
        durability = DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE
        profile = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE, durability=durability)
        return self.node.create_subscription(kind, topic, lambda message: self._keep(topic, message), profile)

    def of(self, topic: str) -> list[Any]:
        """The messages so far, of a topic of the camera."""
        with self._lock:
            return list(self.received[f"{self.camera}/{topic}"])

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        """Wait for something to become true; what it is then."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            value = condition()
            if value:
                return value
            assert time.monotonic() < deadline, f"never came: {what}"
            time.sleep(0.005)

    def close_publisher(self) -> None:
        """Send no more images."""
        self.node.destroy_publisher(self._images)

    def send(self, message: Any) -> None:
        """Publish an image."""
        self._images.publish(message)

    def connect(self, message: Any) -> None:
        """Send this image until the outputs of one are here: then the two nodes know each other."""
        before = len(self.of("timing"))
        deadline = time.monotonic() + PATIENCE_S
        while not all(len(self.of(topic)) > before for topic in ("timing", "tracks", "detections")):
            assert time.monotonic() < deadline, "the node never answered"
            self.send(message)
            time.sleep(0.1)
        self.settle()

    def process(self, message: Image) -> FrameOutputs:
        """Send an image and wait for what comes out of it, exactly one message per topic."""
        topics = ("detections", "tracks", "timing")
        before = [len(self.of(topic)) for topic in topics]
        self.send(message)
        self.until(
            lambda: all(len(self.of(topic)) > count for topic, count in zip(topics, before, strict=True)),
            f"outputs of {message.header.stamp}",
        )
        new = [self.of(topic)[count:] for topic, count in zip(topics, before, strict=True)]
        assert [len(messages) for messages in new] == [1, 1, 1]
        return FrameOutputs(*(messages[0] for messages in new))

    def send_to_be_dropped(self, message: Any) -> None:
        """Send an image that gives no output, and wait until the node has counted it."""
        part = f"camera {self.camera}"
        before = int(self.diagnosis(part, lambda status, values: True)["frames_dropped"])
        self.send(message)
        self.diagnosis(part, lambda status, values: int(values["frames_dropped"]) > before)

    def settle(self, quiet_s: float = 0.25) -> None:
        """Wait until nothing has come for so long."""
        count = -1
        while count != len(self.of("timing")):
            count = len(self.of("timing"))
            time.sleep(quiet_s)

    def call(self, kind: Any, name: str, request: Any) -> Any:
        """Call a service of the node."""
        future = self.begin_call(kind, name, request)
        self.until(future.done, f"answer of {name}")
        return future.result()

    def begin_call(self, kind: Any, name: str, request: Any) -> Future[Any]:
        """Call a service of the node; the future gets the answer."""
        client = self.node.create_client(kind, f"/{self._of_node}/{name}")
        assert client.wait_for_service(timeout_sec=PATIENCE_S), f"no service {name}"
        future = client.call_async(request)
        future.add_done_callback(lambda _: self.node.destroy_client(client))
        return future

    def trigger(self, name: str) -> Trigger.Response:
        """Call a std_srvs/Trigger service of the node."""
        return self.call(Trigger, name, Trigger.Request())

    def transition(self, label: str) -> bool:
        """Ask for a lifecycle transition; whether it succeeded."""
        future = self.begin_transition(label)
        self.until(future.done, f"end of {label}")
        return bool(future.result().success)

    def begin_transition(self, label: str) -> Future[ChangeState.Response]:
        """Ask for a lifecycle transition; the future gets the answer."""
        request = ChangeState.Request()
        request.transition.label = label
        return self.begin_call(ChangeState, "change_state", request)

    @property
    def state(self) -> str:
        """Lifecycle state of the node."""
        return str(self.call(GetState, "get_state", GetState.Request()).current_state.label)

    def set(self, name: str, value: Any) -> tuple[bool, str]:
        """Set a parameter: success and reason."""
        request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
        result = self.call(SetParameters, "set_parameters", request).results[0]
        return result.successful, result.reason

    def get(self, name: str) -> Any:
        """Value of a parameter; None when it is unset (rclpy answers a request for such a one with nothing)."""
        answer = self.call(GetParameters, "get_parameters", GetParameters.Request(names=[name]))
        return rclpy.parameter.parameter_value_to_python(answer.values[0]) if answer.values else None

    def diagnosis(self, part: str, condition: Callable[[DiagnosticStatus, dict[str, str]], bool]) -> dict[str, str]:
        """Wait for a report on `part` ("engine", "camera NAME") that fulfils a condition; its values."""
        start = len(self.received["/diagnostics"])

        def find() -> dict[str, str] | None:
            for report in self.received["/diagnostics"][start:]:
                for status in report.status:
                    values = {pair.key: pair.value for pair in status.values}
                    if status.name == f"{self._of_node}: {part}" and condition(status, values):
                        return {**values, "message": status.message}
            return None

        return self.until(find, f"such a diagnosis of {part}")

    def _keep(self, topic: str, message: Any) -> None:
        with self._lock:
            self.received[topic].append(message)

    def _spin(self) -> None:
        while not self._stop.is_set():
            self._executor.spin_once(timeout_sec=0.1)
