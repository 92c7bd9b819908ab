"""Where a ResNet's blocks halve the picture, against a block written out by hand."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from qdtrack_ros.models import ModelConfig, QDTrack
from qdtrack_ros.models.backbones import ResNet


def bottleneck(x, state, strides):
    """A residual block: 1x1, 3x3, 1x1, each with BatchNorm; the strides are those of the first two."""

    def conv(x, number, stride, padding):
        x = F.conv2d(x, state[f"conv{number}.weight"], stride=stride, padding=padding)
        return norm(x, f"bn{number}")

    def norm(x, name):
        mean, var, weight, bias = (
            state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return F.batch_norm(x, mean, var, weight, bias, eps=1e-5)

    y = conv(x, 1, strides[0], 0).relu()
    y = conv(y, 2, strides[1], 1).relu()
    y = conv(y, 3, 1, 0)
    if "downsample.0.weight" in state:
        x = norm(F.conv2d(x, state["downsample.0.weight"], stride=strides[0] * strides[1]), "downsample.1")
    return (x + y).relu()


@pytest.fixture(scope="module")
def resnets():
    """One of each style with the same weights, BatchNorm's statistics drawn at random."""
    torch.manual_seed(0)
    pytorch, caffe = ResNet(50, "pytorch").eval(), ResNet(50, "caffe").eval()
    state = {
        name: torch.rand(value.shape) + 0.5 if name.endswith("running_var") else value
        for name, value in pytorch.state_dict().items()
    }
    for model in (pytorch, caffe):
        model.load_state_dict(state)
    return {"pytorch": pytorch, "caffe": caffe}


@pytest.mark.parametrize(("style", "strides"), [("pytorch", (1, 2)), ("caffe", (2, 1))])
@torch.inference_mode()
def test_the_stride_is_where_the_style_says(resnets, style, strides):
    x = torch.randn(1, 256, 12, 16)
    for stage, channels in (("layer2", 256), ("layer3", 512), ("layer4", 1024)):
        first = getattr(resnets[style], stage)[0]
        x = torch.randn(1, channels, 12, 16)
        torch.testing.assert_close(first(x), bottleneck(x, first.state_dict(), strides), rtol=1e-4, atol=1e-4)
        second = getattr(resnets[style], stage)[1]
        x = torch.randn(1, 2 * channels, 6, 8)
        torch.testing.assert_close(second(x), bottleneck(x, second.state_dict(), (1, 1)), rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_both_styles_take_the_same_weights_and_give_other_features(resnets):
    image = torch.randn(1, 3, 64, 64)
    pytorch, caffe = resnets["pytorch"](image), resnets["caffe"](image)
    assert [f.shape for f in pytorch] == [f.shape for f in caffe]
    torch.testing.assert_close(pytorch[0], caffe[0])  # C2 has no stride of its own
    assert all(not torch.allclose(a, b, rtol=0.1) for a, b in zip(pytorch[1:], caffe[1:], strict=True))


def test_the_configuration_chooses_the_style():
    with torch.device("meta"):
        network = QDTrack(ModelConfig(backbone_style="caffe"))
    assert network.backbone.style == "caffe"
    assert network.backbone.layer2[0].conv1.stride == (2, 2)
    for wrong in ({"backbone_style": "tensorflow"}, {"backbone": "efficientnet_lite0", "backbone_style": "caffe"}):
        with pytest.raises(ValueError, match="backbone_style"):
            ModelConfig(**wrong)
    with pytest.raises(ValueError, match="style"):
        ResNet(50, "tensorflow")
