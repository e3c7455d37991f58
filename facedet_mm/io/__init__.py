"""Images in and out, and the formats of results. Imports structures and system; any room above them may import it."""
