"""Who is at the other end of a topic, in words: what log and diagnostics say when nothing comes through."""

from __future__ import annotations

from collections.abc import Iterable

from rclpy.duration import Infinite
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, LivelinessPolicy, QoSCompatibility, QoSProfile, qos_check_compatible
from rclpy.topic_endpoint_info import TopicEndpointInfo

from qdtrack_ros.node.log_text import harmless


def publishers_found(node: Node, topic: str, type_name: str) -> str:
    """The publishers of a topic with their QoS, and their type where it is not `type_name`."""
    found = node.get_publishers_info_by_topic(topic)
    if not found:
        return "no publisher found"
    types = ("" if info.topic_type == type_name else f" of type {harmless(info.topic_type, 200)}" for info in found)
    names = map("".join, zip(map(_name, found), types, strict=True))
    return f"publishers found: {', '.join(names)}"


def unfit_publishers(node: Node, topic: str, requested: QoSProfile) -> str:
    """Those publishers of a topic that a subscription with this QoS gets nothing from; empty when there are none."""
    found = node.get_publishers_info_by_topic(topic)
    return _names(info for info in found if not _fits(info.qos_profile, _spelled_out(requested)))


def unfit_subscribers(node: Node, topic: str, offered: QoSProfile) -> str:
    """Those subscribers of a topic that get nothing from a publisher with this QoS; empty when there are none."""
    found = node.get_subscriptions_info_by_topic(topic)
    return _names(info for info in found if not _fits(_spelled_out(offered), info.qos_profile))


def _spelled_out(profile: QoSProfile) -> QoSProfile:
    """A profile of ours as the graph would show it: what is left to the middleware's defaults does not compare."""
    return QoSProfile(
        depth=profile.depth,
        reliability=profile.reliability,
        durability=profile.durability,
        deadline=Infinite,
        liveliness=LivelinessPolicy.AUTOMATIC,
        liveliness_lease_duration=Infinite,
    )


def _fits(offered: QoSProfile, requested: QoSProfile) -> bool:
    compatibility, _ = qos_check_compatible(offered, requested)
    return bool(compatibility != QoSCompatibility.ERROR)


def _names(found: Iterable[TopicEndpointInfo]) -> str:
    return ", ".join(map(_name, found))


def _name(info: TopicEndpointInfo) -> str:
    profile = info.qos_profile
    policies = [profile.reliability.name.lower()]
    if profile.durability != DurabilityPolicy.VOLATILE:
        policies.append(profile.durability.name.lower())
    return f"{_node_name(info)} ({', '.join(policies)})"


def _node_name(info: TopicEndpointInfo) -> str:
    if "_UNKNOWN_" in info.node_name:  # the middleware's word for a node that was killed, or not yet introduced
        return "a node without a name (just started, or killed)"
    return harmless(f"{info.node_namespace.rstrip('/')}/{info.node_name}", 200)
