"""Small gated convolutions with the names of the public code, written from the papers."""
