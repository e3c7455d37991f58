"""Building, checkpoints, conversion of official weights, the inferencer, the PyTorch detector, runs."""
