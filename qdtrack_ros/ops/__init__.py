"""Pure tensor functions: no modules, no state, no configuration.

Glossary of shapes, used by every docstring of this package:

- ``N``, ``M``: boxes of a first and a second set; ``G``: ground-truth boxes
- ``K``: key regions (RoIs), ``R``: reference regions of a training pair; pooling has ``R`` regions of a whole batch
- ``A``: anchors per cell; ``H``, ``W``: rows and columns of a feature map
- ``C``: classes, or channels of a feature map
- ``D``: embedding dimensions

Boxes are ``xyxy`` in pixels, origin at the top-left corner of the top-left pixel, width = x2 - x1 (nowhere a "+1").
Floating-point tensors are float32 unless a function says otherwise; indices and labels are int64.
"""
