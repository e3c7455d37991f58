"""Machine and process: cores, dependencies, threads, atomic files. Imports errors only; any room may import it."""
