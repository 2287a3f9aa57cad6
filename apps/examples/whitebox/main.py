"""Interpolates a surface model from the points; writes dsm.tif."""

import json
import math
import os
import sys

import whitebox_workflows as wbw

arguments = {"cell": 1.0, **json.load(sys.stdin)}
tools = wbw.WbEnvironment()
tools.working_directory = os.environ["GRID_OUTPUT"]
tools.max_procs = max(1, math.ceil(float(os.environ["GRID_CPUS"])))
cloud = tools.read_lidar(os.environ["GRID_INPUT"])
gridding = tools.lidar.interpolation_gridding
surface = gridding.lidar_digital_surface_model(input=cloud, resolution=arguments["cell"])
tools.write_raster(surface, "dsm.tif")
