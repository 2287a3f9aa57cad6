"""Trains a small network to tell heights from positions, with two loading processes; writes model.pt."""

import json
import os
import sys
from pathlib import Path

import laspy
import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset

arguments = {"epochs": 2, "workers": 2, **json.load(sys.stdin)}
cloud = laspy.read(os.environ["GRID_INPUT"])
points = torch.tensor(np.vstack((cloud.x, cloud.y, cloud.z)).T, dtype=torch.float32)
points = (points - points.mean(0)) / points.std(0)
samples = TensorDataset(points[:, :2], points[:, 2:])
loader = DataLoader(samples, batch_size=4096, num_workers=arguments["workers"])
model = torch.nn.Sequential(torch.nn.Linear(2, 32), torch.nn.ReLU(), torch.nn.Linear(32, 1))
optimizer = torch.optim.Adam(model.parameters())
for epoch in range(arguments["epochs"]):
    for position, height in loader:
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(model(position), height)
        loss.backward()
        optimizer.step()
    progress = {"progress": (epoch + 1) / arguments["epochs"], "message": f"loss {loss.item():.4f}"}
    print(json.dumps(progress), file=sys.stderr, flush=True)
torch.save(model.state_dict(), Path(os.environ["GRID_OUTPUT"]) / "model.pt")
