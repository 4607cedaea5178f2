"""The published description of the API is true: whatever it allows is answered, and nothing it forbids breaks the studio."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.studio.conftest import running_studio
from tests.studio.test_server import call

pytestmark = pytest.mark.slow


@pytest.mark.nightly
def test_whatever_is_sent_the_studio_answers_and_never_breaks(tmp_path: Path) -> None:
    with running_studio(tmp_path) as studio:
        command = [
            sys.executable, "-m", "schemathesis.cli", "run", f"{studio.base}/api/openapi.json",
            "--header", f"Authorization: Bearer {studio.token}", "--checks", "not_a_server_error", "--max-examples", "3",
            "--phases", "examples,coverage,fuzzing", "--generation-deterministic", "--request-timeout", "60", "--no-color",
            # What is sent there starts processes of the command line; tests/studio/test_jobs.py sends it bad posts.
            "--exclude-path-regex", "^/api/jobs",
        ]  # fmt: skip
        environment = os.environ | {"PYTHONWARNINGS": "ignore"}
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=400)
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
        assert call(studio, "/api/models")[0] == 200
