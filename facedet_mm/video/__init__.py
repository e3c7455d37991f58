"""Video: sources, sinks, and the pipeline that finds and follows faces from one to the other."""
