"""Tell PyInstaller of imports and files of this package that it cannot see."""

from contextlib import suppress
from importlib.metadata import PackageNotFoundError

from PyInstaller.utils.hooks import (
    collect_data_files,
    collect_dynamic_libs,
    collect_submodules,
    copy_metadata,
)

from sparsemed import _MODULES

NOT_CODECS = {"imagecodecs.__main__", "imagecodecs._imagecodecs"}


def _is_codec(name: str) -> bool:
    return name.startswith("imagecodecs._") and name not in NOT_CODECS


# Codecs and the public names of sparsemed are imported by name when they are first used.
hiddenimports = [
    *collect_submodules("imagecodecs", filter=_is_codec),
    *sorted(set(_MODULES.values())),
]
# HDF5 filters are libraries, not modules, and HDF5 looks for them in this folder.
binaries = collect_dynamic_libs("hdf5plugin")
datas = collect_data_files(
    "sparsemed", includes=["report/page.*", "report/overview.*", "report/live.*"]
)
for name in ("sparsemed", "numpy", "numba", "h5py", "hdf5plugin", "imagecodecs", "matplotlib"):
    with suppress(PackageNotFoundError):  # the report shows the versions of installed packages
        datas += copy_metadata(name)
