"""SysCV/qdtrack and its descendants on OpenMMLab: one detector, mmdet's ``FasterRCNN``, below different names.

Sources: SysCV/qdtrack ``qdtrack/models/mot/qdtrack.py`` and ``roi_heads/quasi_dense_roi_head.py``; mmtracking 0.x
``mmtrack/models/mot/qdtrack.py`` and ``track_heads/quasi_dense_track_head.py``; mmdetection 3
``mmdet/models/mot/qdtrack.py`` and ``tracking_heads/quasi_dense_track_head.py``. Values need no change: our network
follows mmdet's conventions.
"""

from __future__ import annotations

from qdtrack_ros.models.conversion.layout import Layout

# mmdet 2.x and 3.x: ResNet, FPN, RPNHead, Shared2FCBBoxHead.
_DETECTOR = {
    "backbone.": "backbone.",
    "neck.lateral_convs.{n}.": "neck.lateral_convs.{n}.conv.",
    "neck.output_convs.{n}.": "neck.fpn_convs.{n}.conv.",
    "rpn.conv.": "rpn_head.rpn_conv.",
    "rpn.objectness.": "rpn_head.rpn_cls.",
    "rpn.deltas.": "rpn_head.rpn_reg.",
    "box_head.fcs.": "roi_head.bbox_head.shared_fcs.",
    "box_head.classifier.": "roi_head.bbox_head.fc_cls.",
    "box_head.regressor.": "roi_head.bbox_head.fc_reg.",
}
# QuasiDenseEmbedHead, the same in all of them.
_EMBEDDING = {
    "embedding_head.convs.{n}.conv.": "convs.{n}.conv.",
    "embedding_head.convs.{n}.norm.": "convs.{n}.gn.",
    "embedding_head.fcs.": "fcs.",
    "embedding_head.embed.": "fc_embed.",
}
_ASIDE = {
    r"ema_": "copies kept by mmcv's EMAHook; the averaged weights are those under the plain names",
    r"data_preprocessor\.(mean|std)$": "the input's mean and deviation; the preset has them",
}


def _table(detector: str, embedding: str) -> dict[str, str]:
    return {
        **{own: detector + foreign for own, foreign in _DETECTOR.items()},
        **{own: embedding + foreign for own, foreign in _EMBEDDING.items()},
    }


# mmtracking 0.x and mmdetection 3 name everything alike.
OPENMMLAB = Layout(
    name="mmtracking 0.x or mmdetection 3",
    table=_table("detector.", "track_head.embed_head."),
    marks=("track_head.embed_head.",),
    aside=_ASIDE,
)
# The newest code of the reference.
SYSCV_NEW = Layout(
    name="SysCV/qdtrack (new layout)",
    table=_table("detector.", "track_head.track_head."),
    marks=("detector.", "track_head."),
    aside=_ASIDE,
)
# The released files. The newest reference code goes on with random weights, without a word, when it is given one.
SYSCV_OLD = Layout(
    name="SysCV/qdtrack (old layout)",
    table=_table("", "roi_head.track_head."),
    marks=("rpn_head.", "roi_head."),
    aside=_ASIDE,
)
