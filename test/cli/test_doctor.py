from __future__ import annotations

import importlib.metadata

import pytest

from qdtrack_ros.cli import doctor
from qdtrack_ros.cli import main as cli


def only(monkeypatch: pytest.MonkeyPatch, *findings: doctor.Finding) -> None:
    monkeypatch.setattr(doctor, "SECTIONS", {"all": lambda: iter(findings)})


def test_works_without_what_is_optional(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    only(
        monkeypatch,
        doctor.Finding("torch", True, "2", needed=True),
        doctor.Finding("rosbags", False, "not there", "pip install rosbags"),
    )
    assert cli.main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "-> pip install rosbags" in out and "tracking works" in out


def test_fails_without_what_is_needed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    only(monkeypatch, doctor.Finding("torch", False, "not there", "pip install torch", needed=True))
    assert cli.main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "MISSING" in out and "-> pip install torch" in out and "does not work yet: torch" in out


def test_packages_are_found_or_named() -> None:
    there = doctor.package_finding(doctor.Package("numpy", ("numpy",), "", "pip install numpy", True))
    gone = doctor.package_finding(doctor.Package("no_such_module", ("no-such",), "", "pip install no-such"))
    assert there.works and there.text[0].isdigit()
    assert not gone.works and "no_such_module" in gone.text and gone.remedy == "pip install no-such"


def test_every_package_that_is_installed_is_found() -> None:
    installed = {name.lower() for name in importlib.metadata.packages_distributions()}
    for package in doctor.PACKAGES:
        assert package.module.lower() not in installed or doctor.package_finding(package).works, package.module


def test_engines_of_two_products_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"tensorrt-rtx-cu13-bindings": "1.7", "onnxruntime": "1.32", "onnxruntime-gpu": "1.31"}
    monkeypatch.setattr(doctor, "_distribution", lambda name: versions.get(name, ""))
    texts = {finding.name: finding.text for finding in doctor.engines()}
    assert texts["tensorrt"] == "tensorrt-rtx-cu13-bindings 1.7 (engines for NVIDIA's GPUs)"
    assert texts["onnxruntime"].startswith("onnxruntime 1.32, onnxruntime-gpu 1.31 (")
    assert texts["openvino"].startswith("not installed (")


def test_profile_is_checked(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.delenv("FASTDDS_DEFAULT_PROFILES_FILE", raising=False)
    finding = doctor.profile_finding()
    assert not finding.works and "export FASTDDS_DEFAULT_PROFILES_FILE=" in finding.remedy
    path = finding.remedy.partition("=")[2]
    monkeypatch.setenv("FASTDDS_DEFAULT_PROFILES_FILE", path)
    assert doctor.profile_finding().works
    monkeypatch.setenv("FASTDDS_DEFAULT_PROFILES_FILE", f"{path}.gone")
    assert not doctor.profile_finding().works


def test_preset_without_its_weights_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*arguments: object, **options: object) -> object:
        raise FileNotFoundError("weights/pedestrian.safetensors is not there")

    monkeypatch.setattr("qdtrack_ros.inference.engine.create_engine", missing)
    finding = doctor.preset_finding("pedestrian")
    assert finding.needed and not finding.works and "weights/pedestrian.safetensors" in finding.text
