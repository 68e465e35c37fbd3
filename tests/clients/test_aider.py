"""The command line of aider, which has an environment of its own."""

import os
import subprocess

from events import PATIENCE_S
from place import PROJECT
from wanted import QUESTION

AIDER = PROJECT / ".clients" / "aider" / "bin" / "aider"


def aider(deployed, folder, token):
    """One question, in an empty folder; nothing is looked up elsewhere."""
    ours = {"OPENAI_API_BASE": f"{deployed.url}/v1", "OPENAI_API_KEY": token, "HOME": str(folder),
            "LITELLM_LOCAL_MODEL_COST_MAP": "True"}  # fmt: skip
    command = [AIDER, "--model", f"openai/{deployed.model}", "--message", QUESTION,
               "--chat-mode", "ask", "--no-git", "--yes-always", "--no-check-update",
               "--analytics-disable", "--no-show-model-warnings", "--no-show-release-notes",
               "--map-tokens", "0", "--no-pretty", "--no-detect-urls"]  # fmt: skip
    return subprocess.run(
        command, cwd=folder, env={**os.environ, **ours}, capture_output=True, text=True,
        timeout=PATIENCE_S * 2, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def test_aider_asks_and_gets_an_answer(deployed, tmp_path):
    answer = aider(deployed, tmp_path, deployed.token)
    assert "Tokens:" in answer.stdout, answer.stdout + answer.stderr


def test_aider_says_that_the_token_is_wrong(deployed, tmp_path):
    refused = aider(deployed, tmp_path, "wrong")
    assert "asks for its token" in refused.stdout and "Tokens:" not in refused.stdout
