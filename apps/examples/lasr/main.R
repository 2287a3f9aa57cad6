# Canopy height and terrain models with lasR; writes dtm.tif and chm.tif.
library(lasR)
arguments <- jsonlite::fromJSON(paste(readLines(file("stdin"), warn = FALSE), collapse = "\n"))
cell <- if (is.null(arguments$cell)) 1 else arguments$cell
output <- Sys.getenv("GRID_OUTPUT")
set_parallel_strategy(concurrent_points(max(1L, ceiling(as.numeric(Sys.getenv("GRID_CPUS"))))))
steps <- dtm(cell, ofile = file.path(output, "dtm.tif")) + chm(cell, ofile = file.path(output, "chm.tif"))
exec(steps, on = Sys.getenv("GRID_INPUT"))
