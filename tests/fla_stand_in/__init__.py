"""Functions with the names and signatures of fla-core 0.6.0, as plain recurrences."""
