"""GRiD Apps: algorithms in docker images, run where the point clouds are."""
