"""What the supervisor does before it forks the parts."""

import os
import subprocess
import sys


def test_the_rehearsal_of_a_start_leaves_the_data_alone(tmp_path):
    code = "from gridapps.server import supervisor; supervisor._preload()"
    settings = {"GRIDAPPS_DATA": str(tmp_path), "DJANGO_SETTINGS_MODULE": "gridapps.config.settings"}
    subprocess.run([sys.executable, "-c", code], env=os.environ | settings, check=True)
    assert list(tmp_path.iterdir()) == []
