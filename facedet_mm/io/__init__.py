"""Reading and writing images, and result formats. Imports structures and system; any room above may import it."""
