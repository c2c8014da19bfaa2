"""Training, calibration and evaluation; run as ``python -m engine.training``."""
