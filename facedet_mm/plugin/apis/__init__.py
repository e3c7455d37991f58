"""Building, checkpoints, training and testing, inference and conversion; ``deploy``, ``search`` and tools import it."""
