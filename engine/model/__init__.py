"""The network in PyTorch: the one definition that training, export and the reference backend share."""
