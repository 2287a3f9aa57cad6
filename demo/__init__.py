"""Material of the demonstration: a synthetic city, and a picture of the result."""
