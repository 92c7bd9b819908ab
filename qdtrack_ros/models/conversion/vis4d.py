"""vis4d's ``FasterRCNNQDTrack``.

Sources: SysCV/vis4d ``vis4d/model/track/qdtrack.py`` (names, and those of older releases in ``REV_KEYS``),
``op/base/resnet.py``, ``op/fpp/fpn.py`` (torchvision's pyramid), ``op/detect/rpn.py``, ``op/detect/rcnn.py``
(background last, deltas class by class with deviations 0.1, 0.1, 0.2, 0.2), ``op/track/qdtrack.py``,
``op/box/anchor/anchor_generator.py``: the conventions are mmdet's, so values need no change. The order of the
classes is that of ``data/datasets/bdd100k.py``.
"""

from __future__ import annotations

from qdtrack_ros.models.conversion.layout import ConversionError, FileFacts, Layout, State

BDD100K_CLASSES = ("pedestrian", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle")


def _refuse_yolox(state: State, facts: FileFacts) -> State:
    if any(name.startswith("yolox_head.") for name in state):
        raise ConversionError("has a YOLOX detector, ours is Faster R-CNN; take vis4d's Faster R-CNN weights instead")
    return state


VIS4D = Layout(
    name="vis4d",
    table={
        "backbone.": "basemodel.",
        "neck.lateral_convs.{n}.": "fpn.inner_blocks.{n}.0.",
        "neck.output_convs.{n}.": "fpn.layer_blocks.{n}.0.",
        "rpn.conv.": "faster_rcnn_head.rpn_head.rpn_conv.",
        "rpn.objectness.": "faster_rcnn_head.rpn_head.rpn_cls.",
        "rpn.deltas.": "faster_rcnn_head.rpn_head.rpn_box.",
        "box_head.fcs.": "faster_rcnn_head.roi_head.shared_fcs.",
        "box_head.classifier.": "faster_rcnn_head.roi_head.fc_cls.",
        "box_head.regressor.": "faster_rcnn_head.roi_head.fc_reg.",
        "embedding_head.convs.{n}.conv.": "qdtrack_head.similarity_head.convs.{n}.",
        "embedding_head.convs.{n}.norm.": "qdtrack_head.similarity_head.convs.{n}.norm.",
        "embedding_head.fcs.{n}.": "qdtrack_head.similarity_head.fcs.{n}.0.",
        "embedding_head.embed.": "qdtrack_head.similarity_head.fc_embed.",
    },
    marks=("basemodel.", "faster_rcnn_head", "qdtrack_head.", "qdtrack."),
    spellings={
        "backbone.body.": "basemodel.",
        "faster_rcnn_heads.": "faster_rcnn_head.",
        "qdtrack.": "qdtrack_head.",
        # torchvision before 0.13
        "fpn.inner_blocks.{n}.weight": "fpn.inner_blocks.{n}.0.weight",
        "fpn.inner_blocks.{n}.bias": "fpn.inner_blocks.{n}.0.bias",
        "fpn.layer_blocks.{n}.weight": "fpn.layer_blocks.{n}.0.weight",
        "fpn.layer_blocks.{n}.bias": "fpn.layer_blocks.{n}.0.bias",
    },
    prepare=_refuse_yolox,
    classes=BDD100K_CLASSES,
)
