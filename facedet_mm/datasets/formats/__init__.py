"""One module per annotation format, each a reader and a writer; imported by the modules of ``datasets`` only."""
