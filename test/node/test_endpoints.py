"""How the other end of a topic is named to people."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no graph to look at")

from qdtrack_ros.node import qos
from qdtrack_ros.node.endpoints import publishers_found


def test_a_publisher_whose_node_was_killed_is_named_in_words():
    def publisher(namespace, name):
        return SimpleNamespace(
            node_namespace=namespace, node_name=name, topic_type="t", qos_profile=qos.image_input("best_effort")
        )

    found = [publisher("/robot", "driver"), publisher("_NODE_NAMESPACE_UNKNOWN_", "_NODE_NAME_UNKNOWN_")]
    node = SimpleNamespace(get_publishers_info_by_topic=lambda topic: found)
    text = publishers_found(node, "/camera/image_raw", "t")
    assert text.startswith("publishers found: /robot/driver (best_effort), a node without a name")
    assert "UNKNOWN" not in text


def test_names_from_the_network_do_not_steer_the_terminal():
    found = SimpleNamespace(
        node_namespace="/a",
        node_name="b\n[ERROR] \x1b[2J" + "c" * 900,
        topic_type="t\x1b[31m" + "u" * 900,
        qos_profile=qos.image_input("reliable"),
    )
    text = publishers_found(SimpleNamespace(get_publishers_info_by_topic=lambda topic: [found]), "/x", "t")
    assert text.startswith("publishers found: /a/b [ERROR] ?[2Jccc") and " of type t?[31muuu" in text
    assert text.isprintable() and len(text) < 500
