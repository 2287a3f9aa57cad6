"""Material of the demonstration: a synthetic city, and a picture of what was found in it."""
