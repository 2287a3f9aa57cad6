"""How long fuzzers search: a little in the gate, `FUZZ=soak` for hours. The corpus keeps what they find."""

import os
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis.database import DirectoryBasedExampleDatabase

CORPUS = DirectoryBasedExampleDatabase(Path(__file__).parent / "corpus")
SOAK = os.environ.get("FUZZ") == "soak"
# For tests of this directory: @fuzzing. Examples take as long as the machine is busy.
fuzzing = settings(
    max_examples=20_000 if SOAK else 600,
    database=CORPUS,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
