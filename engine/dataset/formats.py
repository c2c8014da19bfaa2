"""Names of the formats and splits; nothing is loaded for them."""

from __future__ import annotations

# What is done with a picture that an annotation file does not name.
REFUSE, EMPTY, LEAVE_OUT = "refuse", "empty", "leave out"
# The formats, with that.
FORMATS = {
    "coco": LEAVE_OUT,
    "yolo": EMPTY,
    "labelme": LEAVE_OUT,
    "cvat": LEAVE_OUT,
    "label-studio": LEAVE_OUT,
    "points-json": REFUSE,
    "points-csv": EMPTY,
    "shanghaitech": REFUSE,
    "ucf-qnrf": REFUSE,
    "nwpu": LEAVE_OUT,
    "beijing-brt": REFUSE,
}
SPLITS = ("train", "val", "test")
