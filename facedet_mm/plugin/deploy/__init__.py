"""Export of checkpoints by PyTorch and by mmdeploy, which imports its rewriters by name; imported by cli and tools."""
