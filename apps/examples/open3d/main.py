"""Finds the largest planes of a point cloud; writes a PLY of each and planes.json."""

import json
import os
import sys
from pathlib import Path

import laspy
import numpy as np
import open3d

arguments = {"planes": 3, "distance": 0.2, **json.load(sys.stdin)}
output = Path(os.environ["GRID_OUTPUT"])
las = laspy.read(os.environ["GRID_INPUT"])
xyz = np.vstack((las.x, las.y, las.z)).T
cloud = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(xyz - xyz.mean(axis=0)))
planes = []
for number in range(arguments["planes"]):
    model, inside = cloud.segment_plane(arguments["distance"], ransac_n=3, num_iterations=500)
    open3d.io.write_point_cloud(str(output / f"plane-{number}.ply"), cloud.select_by_index(inside))
    planes.append({"equation": list(model), "points": len(inside)})
    cloud = cloud.select_by_index(inside, invert=True)
(output / "planes.json").write_text(json.dumps(planes))
