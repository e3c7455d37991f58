"""Image operations, array to array: alignment, anonymization, drawing, corruptions; any room above io may import it."""
