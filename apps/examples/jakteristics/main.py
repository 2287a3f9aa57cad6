"""Adds planarity, linearity and verticality of each point's neighbourhood to the point cloud."""

import json
import math
import os
import sys
from pathlib import Path

import laspy
import numpy as np
from jakteristics import compute_features

FEATURES = ["planarity", "linearity", "verticality"]

arguments = {"radius": 2.0, **json.load(sys.stdin)}
cloud = laspy.read(os.environ["GRID_INPUT"])
threads = max(1, math.ceil(float(os.environ["GRID_CPUS"])))
xyz = np.vstack((cloud.x, cloud.y, cloud.z)).T.astype(np.float64)
found = compute_features(xyz, search_radius=arguments["radius"], feature_names=FEATURES, num_threads=threads)
for number, name in enumerate(FEATURES):
    cloud.add_extra_dim(laspy.ExtraBytesParams(name=name, type=np.float32))
    cloud[name] = found[:, number]
cloud.write(Path(os.environ["GRID_OUTPUT"]) / "features.laz")
print(json.dumps({name: float(np.nanmean(found[:, number])) for number, name in enumerate(FEATURES)}))
