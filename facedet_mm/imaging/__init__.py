"""Image operations on arrays: alignment, anonymization, drawing, corruptions. Any room above io may import it."""
