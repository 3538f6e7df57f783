"""Applications that PyInstaller freezes."""

import os
import runpy
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import h5py
import numpy as np
import pytest

import sparsemed
from sparsemed.demo import make_measurement
from sparsemed.frozen import folder

HOOK = Path(*folder(), "hook-sparsemed.py")

APP = """
import logging
import sys
from pathlib import Path


def main():
    import sparsemed
    from sparsemed.cli import main as command
    from sparsemed.demo import make_measurement
    from sparsemed.report import write_report

    folder = Path(sys.argv[1])
    logging.basicConfig(level=logging.INFO, filename=folder / "log", encoding="utf-8")
    make_measurement(folder / "in.rtdc")  # with chunks that are compressed by Zstandard
    background = sparsemed.compute_background(folder / "in.rtdc", progress=True)
    background.save(folder / "out.rtdc")
    quality = "\\n".join(map(str, background.quality()))
    (folder / "quality").write_text(quality, encoding="utf-8")
    write_report(background, folder / "page.html")
    command(["info", str(folder / "out.rtdc")])


if __name__ == "__main__":
    main()
"""


def test_pyinstaller_is_told_of_the_hooks():
    (found,) = (e for e in entry_points(group="pyinstaller40") if e.module.startswith("sparsemed"))
    assert found.name == "hook-dirs"
    assert found.load()() == [str(HOOK.parent)]
    assert HOOK.is_file()


def test_the_hook_names_what_imports_do_not_show():
    pytest.importorskip("PyInstaller")
    told = runpy.run_path(str(HOOK))
    codecs = ("blosc", "deflate", "h5checksum", "lz4", "lzf", "png", "shared", "zstd")
    assert {f"imagecodecs._{name}" for name in codecs} <= set(told["hiddenimports"])
    assert set(sparsemed._MODULES.values()) <= set(told["hiddenimports"])
    datas = {(Path(source).name, target) for source, target in told["datas"]}
    for kind in ("css", "html", "js"):
        assert (f"page.{kind}", os.path.join("sparsemed", "report")) in datas
    assert any(source.startswith("h5py-") for source, _ in datas)
    assert any("zstd" in Path(source).name for source, _ in told["binaries"])


@pytest.mark.soak
def test_a_frozen_application(tmp_path):
    """It takes two minutes to build."""
    pytest.importorskip("PyInstaller")
    (tmp_path / "app.py").write_text(APP)
    command = [sys.executable, "-m", "PyInstaller", "--noconfirm", "--onedir", "app.py"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    app = tmp_path / "dist" / "app" / ("app.exe" if os.name == "nt" else "app")
    no_folder = tmp_path / "a file"
    no_folder.touch()
    make_measurement(tmp_path / "in.rtdc")
    expected = sparsemed.compute_background(tmp_path / "in.rtdc")

    def run(name, *shell, cache):
        out = tmp_path / name
        out.mkdir()
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        environment |= {"NUMBA_CACHE_DIR": "", "XDG_CACHE_HOME": str(cache)}
        command = [*shell, str(app), str(out)]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        with h5py.File(out / "out.rtdc") as h5:
            np.testing.assert_array_equal(h5["basin_events/image_bg"], expected.images)
        assert "good: " in (out / "quality").read_text(encoding="utf-8")
        page = (out / "page.html").read_text(encoding="utf-8")
        assert f"<td>{h5py.__version__}</td>" in page
        return done.stdout, (out / "log").read_text(encoding="utf-8")

    said, log = run("first", cache=tmp_path / "cache")
    assert "fast path    yes" in said
    assert "Compiling the median kernel" in log
    if os.name == "posix":  # otherwise the cache lies elsewhere
        _, log = run("second", cache=tmp_path / "cache")
        assert "Compiling" not in log
        silent = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"]
        said, log = run("silent", *silent, cache=no_folder)
        assert said == ""
        assert "in each process; set NUMBA_CACHE_DIR" in log
