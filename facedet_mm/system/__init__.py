"""Machine and process: cores, dependencies, threads, atomic files. Any room may import it; it imports only errors."""
