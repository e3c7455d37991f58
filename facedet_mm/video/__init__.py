"""Video sources and sinks, and the pipeline that tracks faces from one to the other; deploy and above may import it."""
