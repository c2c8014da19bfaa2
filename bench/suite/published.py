"""Errors that other crowd counters were published with, on ShanghaiTech's test sets."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """Mean absolute error on parts A and B, where it was published, and whether ImageNet's weights were used."""

    mae_a: float
    mae_b: float
    source: str
    pretrained: bool


PUBLISHED = {
    "MCNN": Published(110.2, 26.4, "Zhang et al., Single-Image Crowd Counting via MCNN, CVPR 2016", False),
    "MobileCount x2": Published(81.4, 8.1, "Wang et al., MobileCount, Neurocomputing 2020; figures of its code", False),
    "CSRNet": Published(68.2, 10.6, "Li et al., CSRNet, CVPR 2018", True),
    "DM-Count": Published(59.7, 7.4, "Wang et al., Distribution Matching for Crowd Counting, NeurIPS 2020", True),
    "P2PNet": Published(
        52.7, 6.25, "Song et al., Rethinking Counting: A Purely Point-Based Framework, ICCV 2021", True
    ),
    "ZIP-N": Published(
        58.9, 7.7, "Ma et al., ZIP: Scalable Crowd Counting, 2025; the best of its weights on the test sets", True
    ),
}
