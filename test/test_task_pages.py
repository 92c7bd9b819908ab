"""The pages for users name what is there: links, log lines, parameters, topics, diagnostics, commands, options."""

from __future__ import annotations

import ast
import functools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from qdtrack_ros.cli import main as cli
from qdtrack_ros.node.parameters import load_specs

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *DOCS.glob("*.md")])
TASKS = [
    DOCS / f"{name}.md"
    for name in (
        *("install", "first_camera", "viewing", "several_cameras", "tuning"),
        *("diagnostics", "troubleshooting", "security"),
    )
]
SPECS = load_specs()
PARAMETERS = set(SPECS.node) | {f"NAME.{name}" for name in SPECS.camera}
CAMERAS = ("NAME", "front", "rear", "camera", "side/left")
LEVELS = ("INFO", "WARN", "ERROR")


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def quoted(page: Path) -> Iterator[str]:
    """What stands in backticks, outside of blocks."""
    text = re.sub(r"^```.*?^```$", "", read(page), flags=re.MULTILINE | re.DOTALL)
    yield from re.findall(r"`([^`\n]+)`", text)


def anchors(page: Path) -> set[str]:
    """Headings as links name them on a code host."""
    headings = re.findall(r"^#+ (.+)$", read(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", read(page)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        found = (page.parent / name).resolve() if name else page
        assert found.exists(), f"{page.name} links to {target}"
        assert not anchor or anchor in anchors(found), (
            f"{page.name} links to {target}; there is {sorted(anchors(found))}"
        )


def test_the_readme_leads_to_every_page() -> None:
    linked = set(re.findall(r"\]\((docs/\w+\.md)\)", read(ROOT / "README.md")))
    assert linked == {f"docs/{page.name}" for page in DOCS.glob("*.md")}


@functools.cache
def code_texts() -> list[str]:
    """Every text in the code that a log line can be made of, with `…` for what is filled in."""
    texts = []
    folders = ("node", "data", "inference", "models")
    for path in sorted(path for folder in folders for path in (ROOT / "qdtrack_ros" / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(read(path))):
            if isinstance(node, ast.JoinedStr):
                parts = [p.value if isinstance(p, ast.Constant) else "…" for p in node.values]
                texts.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(re.sub(r"\{\w+\}", "…", node.value))
    return texts


def is_said(line: str, texts: list[str]) -> bool:
    """Whether each piece of a quoted line, between its gaps, stands in the code, or one text makes all of it."""
    line = line.removeprefix("camera …: ")  # what every line about a camera begins with
    pieces = [piece.strip(" :,") for piece in re.split("…|; ", line)]
    pieces = [piece for piece in pieces if len(piece) > 3]
    if pieces and all(any(piece in text for text in texts) for piece in pieces):
        return True
    specific = (text for text in texts if "…" in text and len(text.replace("…", "")) > 8)
    return any(re.fullmatch(re.escape(text).replace("…", ".+"), line) for text in specific)


def log_lines() -> list[tuple[str, str]]:
    """Page and line, of every quoted log line: those with a level, and the first column of the tables of lines."""
    found = []
    for page in TASKS:
        found += [(page.name, line) for line in quoted(page) if line.startswith(LEVELS)]
    for table in re.findall(
        r"^\| line \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", read(DOCS / "troubleshooting.md"), re.MULTILINE
    ):
        first = (row.split("|")[1].strip() for row in table.splitlines())
        found += [("troubleshooting.md", cell.strip("`")) for cell in first if cell.startswith("`")]
    return sorted(set(found))


@pytest.mark.parametrize(("page", "line"), log_lines())
def test_quoted_log_lines_are_those_of_the_code(page: str, line: str) -> None:
    level, _, text = line.partition(" ")
    assert is_said(text if level in LEVELS else line, code_texts())


def test_a_line_that_nobody_writes_would_be_found() -> None:
    assert len(log_lines()) > 25
    assert not is_said("camera …: no picture on … for … s", code_texts())


@pytest.mark.parametrize("page", [*TASKS, ROOT / "README.md"], ids=lambda page: page.name)
def test_parameters_are_named_as_they_are(page: Path) -> None:
    groups = {name.split(".")[0] for name in SPECS.node if "." in name}
    pattern = re.compile(rf"\b((?:{'|'.join(sorted(groups))}|NAME)\.[a-z_.]+)")
    text = read(page)
    for name in [match.rstrip(".") for match in pattern.findall(text)]:
        group = any(known.startswith(f"{name}.") for known in PARAMETERS)
        assert name in PARAMETERS or group or name.endswith((".md", ".py")), name
    for name in re.findall(r"-p \"?([\w./]+):=", text):
        assert any(name == known or name.endswith(f".{known}") for known in [*SPECS.node, *SPECS.camera]), name
    for name in re.findall(r"ros2 param \w+ /qdtrack ([\w.]+)", text):
        assert name in SPECS.node and SPECS.node[name].change == "runtime", name
    for block in re.findall(r"^```yaml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        check_parameter_file(block)


def check_parameter_file(text: str) -> None:
    """Every entry is a parameter with a value that is allowed."""
    values = yaml.safe_load(text)["/**"]["ros__parameters"]
    flat = {}
    for key, value in values.items():
        flat.update(
            {f"{key}.{name}": item for name, item in value.items()} if isinstance(value, dict) else {key: value}
        )
    cameras = flat.get("cameras", ["camera"])
    specs = {**SPECS.node, **{spec.name: spec for camera in cameras for spec in SPECS.of_camera(camera)}}
    for name, value in flat.items():
        assert name in specs, name
        assert specs[name].refuse(value) is None, specs[name].refuse(value)


def topics() -> set[str]:
    """Topics and services of the node, by what follows the camera's or the node's name."""
    text = read(ROOT / "qdtrack_ros" / "node" / "camera_io.py") + read(
        ROOT / "qdtrack_ros" / "node" / "tracker_node.py"
    )
    return set(re.findall(r'\{name\}/(\w+)"', text)) | {"image_raw", "image_raw/compressed", "camera_info"}


@pytest.mark.parametrize("page", [*TASKS, ROOT / "README.md"], ids=lambda page: page.name)
def test_topics_are_named_as_they_are(page: Path) -> None:
    pattern = re.compile(rf"(?<![\w.])/?(?:{'|'.join(CAMERAS)})/([a-z_]+(?:/compressed)?)\b")
    named = set(pattern.findall(read(page))) - {"image_rect", "v4l2_camera_node"}
    assert named - {"left"} <= topics()


def test_diagnostics_are_described_whole() -> None:
    page = read(DOCS / "diagnostics.md")
    tables = {
        heading: body for heading, body in re.findall(r"^#+ ([^\n]+)\n(.*?)(?=^#|\Z)", page, re.MULTILINE | re.DOTALL)
    }

    def first_column(heading: str, header: str) -> set[str]:
        table = re.search(rf"^\| {header} \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", tables[heading], re.MULTILINE)
        assert table is not None
        return {name for row in table.group(1).splitlines() for name in re.findall(r"`([^`]+)`", row.split("|")[1])}

    code = read(ROOT / "qdtrack_ros" / "node" / "diagnostics.py")
    functions = {node.name: node for node in ast.parse(code).body if isinstance(node, ast.FunctionDef)}

    def keys(function: str) -> set[str]:
        dictionary = next(node for node in ast.walk(functions[function]) if isinstance(node, ast.Dict))
        return {key.value for key in dictionary.keys if isinstance(key, ast.Constant)}  # type: ignore[misc]

    assert first_column("The engine", "key") == keys("_engine_status")
    assert first_column("A camera", "key") - {"dropped.REASON", "faults.KIND"} == keys("camera_status")
    reasons = set()
    for name in ("worker", "mailbox", "clock_guard"):
        module = read(ROOT / "qdtrack_ros" / "node" / f"{name}.py")
        reasons |= set(re.findall(r'^[A-Z_]+ = "(\w+)"$', module, re.MULTILINE))
    reasons |= set(
        re.findall(r'^    [A-Z_]+ = "(\w+)"$', read(ROOT / "qdtrack_ros" / "data" / "image_errors.py"), re.M)
    )
    assert first_column("A camera", "name") == reasons
    message = read(ROOT / "msg" / "FrameTiming.msg")
    fields = set(re.findall(r"^(?:float32|uint16|uint64) (\w+)", message, re.MULTILINE))
    named = first_column("`NAME/timing`", "field")
    assert named <= fields and all(f"`{field}`" in tables["`NAME/timing`"] for field in fields)


def commands() -> list[tuple[str, str]]:
    """Page and line, of every command in the pages' blocks; continued lines joined."""
    found = []
    for page in [*TASKS, ROOT / "README.md", DOCS / "benchmarks.md"]:
        for block in re.findall(r"^```bash\n(.*?)^```$", read(page), re.MULTILINE | re.DOTALL):
            lines = block.replace("\\\n", " ").splitlines()
            found += [(page.name, line.partition("  #")[0].strip()) for line in lines if line.strip()]
    return found


@pytest.mark.parametrize(
    ("page", "line"), [entry for entry in commands() if re.search(r"\bqdtrack (?!track)\w+", entry[1])]
)
def test_qdtrack_commands_parse(page: str, line: str) -> None:
    words = shlex.split(line.replace("<", "").replace(">", ""))
    if words[0] == "make" or "qdtrack" not in words:
        return
    words = words[words.index("qdtrack") + 1 :]
    if words[0] == "node":
        assert words[1:2] in ([], ["--ros-args"])
        return
    parser = cli.build_parser(words[0])
    parser.parse_args([word for word in words if word not in ("#",)])


@pytest.mark.parametrize(("page", "line"), [entry for entry in commands() if "ros2 launch qdtrack_ros" in entry[1]])
def test_launch_commands_give_arguments_that_there_are(page: str, line: str) -> None:
    words = shlex.split(line)
    file = words[words.index("qdtrack_ros") + 1]
    declared = set()
    for name in {file, "qdtrack.launch.py"}:  # the others include it
        declared |= set(re.findall(r'(?:argument|DeclareLaunchArgument)\(\s*"(\w+)"', read(ROOT / "launch" / name)))
    given = {word.partition(":=")[0] for word in words if ":=" in word}
    assert given <= declared


@pytest.mark.parametrize(("page", "line"), [entry for entry in commands() if "ros2 run qdtrack_ros" in entry[1]])
def test_executables_are_installed(page: str, line: str) -> None:
    name = shlex.split(line)[3]
    assert f"scripts/{name}" in read(ROOT / "CMakeLists.txt") and (ROOT / "scripts" / name).is_file()


def test_files_named_in_the_pages_are_there() -> None:
    for page in TASKS:
        for name in re.findall(r"`((?:config|scripts|test|launch|weights)/[\w./]+\.\w+)`", read(page)):
            assert (ROOT / name).is_file(), f"{page.name} names {name}"


def test_the_tuning_page_knows_every_threshold() -> None:
    page = read(DOCS / "tuning.md")
    spared = {"tracker.metric", "tracker.match_across_classes", "tracker.backdrop_frames"}  # no symptom asks for them
    spared |= {"tracker.nms_confidence", "tracker.backdrop_nms_iou"}
    for name in SPECS.node:
        assert not name.startswith("tracker.") or name in spared or f"`{name}`" in page, name
