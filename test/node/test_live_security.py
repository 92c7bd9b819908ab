"""What the running node opens to the network: DDS, and on it the names of the shipped SROS 2 policy, nothing else."""

from __future__ import annotations

import contextlib
import re
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no ROS graph to test on")

from rclpy.parameter_client import AsyncParameterClient

ROOT = Path(__file__).resolve().parents[2]
POLICY = ROOT / "config" / "sros2" / "qdtrack.policy.xml"
# Names that the policy grants for settings which this node does not have: by topic, the setting.
OPTIONAL = {
    ("subscribe", "/clock"): "use_sim_time",
    ("subscribe", "/camera/image_raw/compressed"): "camera.transport",
}


def granted(enclave):
    """Names by right ("publish", "subscribe", "reply", "request"), resolved, of an enclave of the shipped policy."""
    (profile,) = ElementTree.parse(POLICY).findall(f"./enclaves/enclave[@path='{enclave}']/profiles/profile")
    namespace, node = profile.get("ns").rstrip("/"), profile.get("node")
    names = {"publish": set(), "subscribe": set(), "reply": set(), "request": set()}
    for group in profile:
        for right, verdict in group.attrib.items():
            assert verdict == "ALLOW", "what is not named is denied anyway"
            for element in group:
                text = re.sub(r"^~", f"{namespace}/{node}", element.text)
                names[right].add(text if text.startswith("/") else f"{namespace}/{text}")
    return names


@pytest.fixture(scope="module")
def node(start_node):
    process = start_node("-p", "publish_embeddings:=true")
    process.wait_for("active:")
    return process


@pytest.fixture(scope="module")
def graph(node, connect):
    """Names that the running node has on the graph, by right."""
    client = connect("elsewhere")

    def found():
        ask = client.node
        kinds = {
            "publish": ask.get_publisher_names_and_types_by_node,
            "subscribe": ask.get_subscriber_names_and_types_by_node,
            "reply": ask.get_service_names_and_types_by_node,
            "request": ask.get_client_names_and_types_by_node,
        }
        try:
            names = {right: {name for name, _ in kind("qdtrack", "/")} for right, kind in kinds.items()}
        except Exception:  # not discovered yet
            return None
        complete = "/qdtrack/load_state" in names["reply"] and "/camera/image_raw" in names["subscribe"]
        return names if complete else None

    client.until(found, "the node on the graph")
    client.settle()
    return found()


def test_the_policy_grants_what_the_node_has_and_nothing_else(graph):
    for right, names in granted("/qdtrack").items():
        spare = {name for kind, name in OPTIONAL if kind == right}
        assert names - spare == graph[right], right
        assert spare <= names


def test_others_reach_only_names_that_the_node_has(graph):
    node_side = {"publish": "subscribe", "subscribe": "publish", "request": "reply"}
    common = {"/parameter_events", "/rosout"}
    spare = {name for _, name in OPTIONAL}
    for enclave in ("/qdtrack/camera", "/qdtrack/consumer", "/qdtrack/operator"):
        for right, other in node_side.items():
            assert granted(enclave)[right] - common - spare <= graph[other], (enclave, right)
    assert not granted("/qdtrack/consumer")["request"] and not granted("/qdtrack/camera")["request"]
    results = {name for name in graph["publish"] if name.startswith("/camera/")}
    for enclave in ("/qdtrack/camera", "/qdtrack/consumer", "/qdtrack/operator"):
        assert not granted(enclave)["publish"] & results, "only the tracker may publish tracks"


def test_the_operator_has_what_the_tools_of_ros2_use(connect):
    node = connect("tools").node
    AsyncParameterClient(node, "/qdtrack")  # what `ros2 param` is made of: it waits until all its services are there
    clients = {client.service_name for client in node.clients}
    assert len(clients) == 6
    lifecycle = {f"/qdtrack/{name}" for name in ("get_available_transitions", "get_state", "change_state")}
    assert clients | lifecycle <= granted("/qdtrack/operator")["request"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="sockets are read from /proc, which only Linux has")
def test_nothing_is_opened_beyond_dds(node):
    process = Path("/proc") / str(node.pid)
    links = []
    for path in (process / "fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            links.append(path.readlink().name)
    inodes = {match.group(1) for link in links if (match := re.fullmatch(r"socket:\[(\d+)\]", link))}

    def sockets(table, column):
        lines = (process / "net" / table).read_text(encoding="ascii").splitlines()[1:]
        return [line.split() for line in lines if line.split()[column] in inodes]

    assert len(sockets("udp", 9)) > 2, "DDS speaks UDP: without any, this test looks at the wrong process"
    for table in ("tcp", "tcp6", "raw", "raw6"):
        if (process / "net" / table).exists():
            assert not sockets(table, 9), f"a {table} socket"
    named = [line for line in sockets("unix", 6) if len(line) > 7]
    assert not named, "a socket in the file system"
