"""Client of GRiD Apps."""
