# Surface model with R's package raster; writes dsm.tif. PDAL reads the points, because R itself reads no LAS.
suppressPackageStartupMessages(library(raster))
arguments <- jsonlite::fromJSON(paste(readLines(file("stdin"), warn = FALSE), collapse = "\n"))
cell <- if (is.null(arguments$cell)) 1 else arguments$cell
input <- shQuote(Sys.getenv("GRID_INPUT"))
table <- file.path(Sys.getenv("GRID_SCRATCH"), "points.csv")

pdal <- function(...) {
  found <- system2("pdal", c(...), stdout = TRUE)
  if (!is.null(attr(found, "status"))) stop("PDAL cannot read the point cloud.")
  paste(found, collapse = "\n")
}

message('{"progress": 0.1, "message": "reading the points"}')
pdal("translate", input, shQuote(table), "--writer", "writers.text", "--writers.text.order=X:3,Y:3,Z:3",
     "--writers.text.keep_unspecified=false", "--writers.text.quote_header=false")
points <- as.matrix(read.csv(table))
message('{"progress": 0.6, "message": "making the raster"}')
system <- jsonlite::fromJSON(pdal("info", "--metadata", input))$metadata$srs$wkt
corners <- floor(apply(points[, 1:2], 2, range) / cell + c(0, 1)) * cell
grid <- raster(extent(t(corners)), resolution = cell, crs = if (nzchar(system)) CRS(SRS_string = system) else NA)
highest <- rasterize(points[, 1:2], grid, field = points[, 3], fun = max)
writeRaster(highest, file.path(Sys.getenv("GRID_OUTPUT"), "dsm.tif"))
