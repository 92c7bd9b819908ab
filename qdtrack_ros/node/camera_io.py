"""The topics of one camera: its publishers from configure on, its subscriptions while the node is active."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from rclpy.event_handler import (
    PublisherEventCallbacks,
    QoSOfferedIncompatibleQoSInfo,
    QoSRequestedIncompatibleQoSInfo,
    SubscriptionEventCallbacks,
)
from rclpy.lifecycle import LifecycleNode, LifecyclePublisher
from rclpy.qos import QoSProfile, qos_policy_name_from_kind
from rclpy.serialization import deserialize_message
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray
from visualization_msgs.msg import MarkerArray

from qdtrack_ros.data.compressed_codec import decode_compressed
from qdtrack_ros.data.image_codec import BgrImage, decode_image
from qdtrack_ros.data.image_errors import ImageError, ImageFault
from qdtrack_ros.inference.drawing import draw_tracks
from qdtrack_ros.msg import EmbeddingArray, FrameTiming, TrackArray
from qdtrack_ros.node import endpoints, messages, qos
from qdtrack_ros.node.camera import Camera, DecodedImage, FrameResult, ReceivedFrame
from qdtrack_ros.node.frame_timing import FrameTimes
from qdtrack_ros.node.mailbox import MailboxCounts
from qdtrack_ros.node.publication_gaps import PublicationGaps
from qdtrack_ros.node.visualization import PinholeModel, marker_message


class CameraOptions(NamedTuple):
    """How a camera is connected.

    Attributes:
        transport: raw or compressed.
        reliability: best_effort or reliable.
        depth: of the image subscription's queue.
        publish_embeddings: whether NAME/embeddings exists.
    """

    transport: str
    reliability: str
    depth: int
    publish_embeddings: bool


class ModelFacts(NamedTuple):
    """What the messages say about the network: class names, and whose embeddings they are."""

    labels: tuple[str, ...]
    model_id: str
    embedding_dim: int


_MAX_FRAME_ID = 1024  # characters


def checked_header(header: Header) -> Header:
    """The header, to be copied to every output and to each track in it.

    Raises:
        ImageError: BAD_HEADER, its frame_id is so long that the outputs would be many times the image.
    """
    if len(header.frame_id) > _MAX_FRAME_ID:
        text = f"frame_id has {len(header.frame_id)} characters, more than {_MAX_FRAME_ID}; look at the camera driver"
        raise ImageError(ImageFault.BAD_HEADER, text)
    return header


def decoder(transport: str) -> Callable[[bytes, int], DecodedImage]:
    """Turns the serialized messages of a transport into pictures."""

    def decode_raw(payload: bytes, max_pixels: int) -> DecodedImage:
        message = deserialize_message(payload, Image)
        header = checked_header(message.header)
        pixels = decode_image(message, max_pixels)
        return DecodedImage(header, messages.stamp_nanoseconds(header), pixels, message.encoding)

    def decode_packed(payload: bytes, max_pixels: int) -> DecodedImage:
        message = deserialize_message(payload, CompressedImage)
        header = checked_header(message.header)
        pixels = decode_compressed(message, max_pixels)
        return DecodedImage(header, messages.stamp_nanoseconds(header), pixels, message.format)

    return decode_packed if transport == "compressed" else decode_raw


class CameraIo:
    """Publishers and subscriptions of one camera.

    Args:
        node: they belong to.
        camera: gets the frames.
        options: how it is connected.
        facts: about the network.
        on_incompatible: told in words when the QoS of another node does not fit ours.
        on_lost: told in words when frames were lost on their way.
    """

    def __init__(
        self,
        node: LifecycleNode,
        camera: Camera,
        options: CameraOptions,
        facts: ModelFacts,
        on_incompatible: Callable[[str], None],
        on_lost: Callable[[str], None],
    ) -> None:
        self._node = node
        self._camera = camera
        self._options = options
        self._facts = facts
        self._on_incompatible = on_incompatible
        self._on_lost = on_lost
        self._subscriptions: list[Subscription] = []
        self._unfit_once: dict[str, QoSProfile] = {}  # outputs with an incompatible subscriber at some time
        self._unfit_input_once = False
        self._pinhole: PinholeModel | None = None
        name = camera.name
        create = self._create_publisher
        self._detections = create(Detection2DArray, f"{name}/detections", qos.results())
        self._tracks = create(TrackArray, f"{name}/tracks", qos.results())
        self._timing = create(FrameTiming, f"{name}/timing", qos.results())
        self._annotated = create(Image, f"{name}/image_annotated", qos.pictures())
        self._markers = create(MarkerArray, f"{name}/markers", qos.pictures())
        self._embeddings = None
        if options.publish_embeddings:
            self._embeddings = create(EmbeddingArray, f"{name}/embeddings", qos.results())
        compressed = options.transport == "compressed"
        self._kind: Any = CompressedImage if compressed else Image
        self._profile = qos.image_input(options.reliability, options.depth)
        suffix = "image_raw/compressed" if compressed else "image_raw"
        self.topic: str = node.resolve_topic_name(f"{name}/{suffix}")

    def subscribe(self) -> None:
        """Begin to take images."""
        clock = self._node.get_clock()
        gaps = PublicationGaps()

        def store(payload: bytes, info: Mapping[str, Any]) -> None:
            missed = gaps.missed(info)
            if missed:
                self._lost(missed)
            self._camera.receive(ReceivedFrame(payload, time.perf_counter(), clock.now().nanoseconds))

        # Raw: the worker unpacks only the frames it processes, and this callback costs next to nothing.
        images = self._node.create_subscription(
            self._kind,
            self.topic,
            store,
            self._profile,
            raw=True,
            event_callbacks=SubscriptionEventCallbacks(incompatible_qos=self._incompatible),
        )
        info_topic = f"{self._camera.name}/camera_info"
        infos = self._node.create_subscription(CameraInfo, info_topic, self._take_camera_info, qos.image_input())
        self._subscriptions = [images, infos]
        self._camera.expect()

    def unsubscribe(self) -> None:
        """Take no more images."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions = []

    def destroy(self) -> None:
        """Remove everything from the graph."""
        self.unsubscribe()
        outputs = (self._detections, self._tracks, self._timing, self._annotated, self._markers, self._embeddings)
        for publisher in outputs:
            if publisher is not None:
                self._node.destroy_lifecycle_publisher(publisher)

    def publish(self, result: FrameResult, marker_depth_m: float) -> None:
        """Publish one processed frame; pictures and markers only while somebody looks."""
        detections, tracks = messages.frame_messages(result, self._facts.labels)
        self._detections.publish(detections)
        self._tracks.publish(tracks)
        if self._embeddings is not None:
            facts = self._facts
            self._embeddings.publish(messages.embeddings_message(result, facts.model_id, facts.embedding_dim))
        if self._markers.get_subscription_count():
            self._markers.publish(marker_message(result, self._facts.labels, self._pinhole, marker_depth_m))
        if self._annotated.get_subscription_count():
            self._annotated.publish(messages.image_message(result.image.header, draw_frame(result, self._facts.labels)))

    def publish_times(self, result: FrameResult, times: FrameTimes, counts: MailboxCounts) -> None:
        """Publish where the frame's time went."""
        self._timing.publish(messages.timing_message(result.image.header, times, counts))

    def publishers_found(self) -> str:
        """Who publishes the images, and with which QoS, for people."""
        return endpoints.publishers_found(self._node, self.topic, messages.type_name(self._kind))

    def mismatches(self) -> list[str]:
        """Nodes whose QoS does not fit ours now, in words, a line a topic."""
        found = []
        # The graph is asked only where the middleware once told of such a node: this is called every second.
        unfit = endpoints.unfit_publishers(self._node, self.topic, self._profile) if self._unfit_input_once else ""
        if unfit:
            found.append(f"incompatible QoS: no images on {self.topic} from {unfit}; {self._how_subscribed()}")
        for topic, profile in self._unfit_once.items():
            unfit = endpoints.unfit_subscribers(self._node, topic, profile)
            if unfit:
                found.append(f"incompatible QoS: nothing on {topic} for {unfit}")
        return found

    def _create_publisher(self, kind: Any, name: str, profile: QoSProfile) -> LifecyclePublisher[Any]:
        topic = self._node.resolve_topic_name(name)

        def incompatible(event: QoSOfferedIncompatibleQoSInfo) -> None:
            self._unfit_once[topic] = profile
            policy = qos_policy_name_from_kind(event.last_policy_kind)
            subscribers = endpoints.unfit_subscribers(self._node, topic, profile)
            self._on_incompatible(
                f"camera {self._camera.name}: a subscriber of {topic} asks for a {policy} that is not offered and gets "
                f"nothing: {subscribers or 'gone already'}; offered is "
                f"{profile.reliability.name.lower()}, {profile.durability.name.lower()}"
            )

        callbacks = PublisherEventCallbacks(incompatible_qos=incompatible)
        return self._node.create_lifecycle_publisher(kind, name, profile, event_callbacks=callbacks)

    def _lost(self, count: int) -> None:
        self._camera.note_lost(count)
        self._on_lost(
            f"camera {self._camera.name}: {count} frame(s) on {self.topic} never arrived: replaced while "
            "this process was too busy to take them, or lost on the way (does the publisher use our Fast DDS profile?)"
        )

    def _take_camera_info(self, message: CameraInfo) -> None:
        self._pinhole = PinholeModel.of_camera_matrix(message.k, message.width, message.height)

    def _incompatible(self, event: QoSRequestedIncompatibleQoSInfo) -> None:
        self._unfit_input_once = True
        policy = qos_policy_name_from_kind(event.last_policy_kind)
        self._on_incompatible(
            f"camera {self._camera.name}: a publisher on {self.topic} does not offer the {policy} that is asked for "
            f"({self._how_subscribed()}); {self.publishers_found()}"
        )

    def _how_subscribed(self) -> str:
        return f"{self._camera.name}.qos.reliability is {self._options.reliability}"


def draw_frame(result: FrameResult, labels: tuple[str, ...]) -> BgrImage:
    """The picture with the tracks of this frame drawn into it."""
    visible = [view.track for view in result.tracked.visible]
    return draw_tracks(
        result.image.pixels,
        np.array([track.id for track in visible], np.int64),
        np.array([track.box for track in visible], np.float32).reshape(-1, 4),
        [labels[track.label] for track in visible],
        np.array([track.score for track in visible], np.float32),
        result.tracked.trails,
    )
