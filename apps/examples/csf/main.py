"""Classifies ground (class 2) with the cloth simulation filter; writes ground.laz and a summary."""

import json
import os
import sys
from pathlib import Path

import CSF
import laspy
import numpy as np

arguments = {"cell": 1.0, "threshold": 0.5, **json.load(sys.stdin)}
output = Path(os.environ["GRID_OUTPUT"])
cloud = laspy.read(os.environ["GRID_INPUT"])
print(json.dumps({"progress": 0.2, "message": f"{len(cloud.points)} points read"}), file=sys.stderr)

os.chdir(os.environ["GRID_SCRATCH"])  # CSF writes its cloth into the working directory
cloth = CSF.CSF()
cloth.params.cloth_resolution = arguments["cell"]
cloth.params.class_threshold = arguments["threshold"]
cloth.setPointCloud(np.vstack((cloud.x, cloud.y, cloud.z)).T)
ground, others = CSF.VecInt(), CSF.VecInt()
cloth.do_filtering(ground, others, False)

classes = np.ones(len(cloud.points), dtype=np.uint8)
classes[np.array(ground, dtype=np.int64)] = 2
cloud.classification = classes
cloud.write(output / "ground.laz")
print(json.dumps({"points": len(classes), "ground": len(ground)}))
