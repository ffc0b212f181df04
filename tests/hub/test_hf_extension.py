"""`hf ess ...`: the `hf` command finds this package as an extension, and hands its words over."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import datetime, timezone
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from huggingface_hub.cli.extensions import EXTENSIONS_ROOT, ExtensionManifest

import hf_ess

ROOT = Path(__file__).parent.parent.parent
SCRIPTS = Path(sys.executable).parent


@pytest.fixture
def hf(tmp_path):
    """Runs `hf` for a user who has installed the extension."""
    folder = tmp_path / EXTENSIONS_ROOT.relative_to("~") / "hf-ess"
    installed = ExtensionManifest(
        owner="somebody",
        repo="hf-ess",
        repo_id="somebody/hf-ess",
        short_name="ess",
        executable_path=str(SCRIPTS / "hf-ess"),
        type="python",
        installed_at=datetime.now(timezone.utc),
    )
    installed.save(folder)
    environment = os.environ | {
        "HOME": str(tmp_path),
        "HF_HOME": str(tmp_path / "cache"),
        "HF_HUB_DISABLE_UPDATE_CHECK": "1",
    }

    def run(*words):
        return subprocess.run(
            [SCRIPTS / "hf", *words],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


def test_the_package_has_the_console_script_that_hf_wants():
    (script,) = entry_points(group="console_scripts", name="hf-ess")
    assert script.load() is hf_ess.cli.main
    # A file of that name at the top of the repository would be taken for the whole extension.
    assert not (ROOT / "hf-ess").exists()


def test_hf_ess_is_the_command(hf):
    ended = hf("ess", "--version")
    assert (ended.returncode, ended.stdout) == (0, f"hf-ess {hf_ess.__version__}\n")


def test_words_and_status_pass_through(hf, tmp_path):
    ended = hf("ess", "card", str(tmp_path / "none here"))
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert "error: Cannot read" in ended.stderr
    assert hf("ess", "no-such-command").returncode == 2
