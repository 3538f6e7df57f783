"""The command that installs a missing package works as it is printed."""

import importlib.util
import shlex
import subprocess
import sys

import pytest

from sparsemed import install_hint
from sparsemed.install_hint import how_to_install


@pytest.mark.skipif(sys.platform == "win32", reason="quotes of another shell")
def test_the_command_runs():
    if not importlib.util.find_spec("pip"):
        pytest.skip("there is no pip")
    # what is there already needs no network
    command = f"{how_to_install('click', 'numpy>=2.0')} --no-index --dry-run"
    run = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert run.stdout.count("Requirement already satisfied") >= 2


def test_it_is_for_the_python_that_runs(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/opt/my lab/bin/python")
    monkeypatch.setattr(sys, "platform", "linux")
    there = {"pip": True}
    monkeypatch.setattr(install_hint.importlib.util, "find_spec", there.get)
    words = ["/opt/my lab/bin/python", "-m", "pip", "install", "dcnum==0.31.*"]
    assert shlex.split(how_to_install("dcnum==0.31.*")) == words
    there.clear()
    words = ["uv", "pip", "install", "--python", "/opt/my lab/bin/python", "a", "b[c]"]
    assert shlex.split(how_to_install("a", "b[c]")) == words
    monkeypatch.setattr(sys, "platform", "win32")
    assert how_to_install("a").endswith('--python "/opt/my lab/bin/python" a')


def test_a_frozen_application_has_no_pip(monkeypatch):
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    said = how_to_install("matplotlib")
    assert said == "this application lacks it; its makers can add matplotlib"
