"""How long fuzzers run: briefly in `make test`, for hours with `FUZZ=soak`; and the corpus of their finds."""

import os
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis.database import DirectoryBasedExampleDatabase

CORPUS = DirectoryBasedExampleDatabase(Path(__file__).parent / "corpus")
SOAK = os.environ.get("FUZZ") == "soak"
# The decorator @fuzzing, for tests of this directory. It has no deadline, because the machine may be busy.
fuzzing = settings(
    max_examples=20_000 if SOAK else 600,
    database=CORPUS,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
