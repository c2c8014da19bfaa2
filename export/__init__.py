"""Checkpoint -> bundle: ONNX graphs cut at the attention, with one file of weights; ``python -m engine.export``."""
