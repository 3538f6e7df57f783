"""Tell PyInstaller what it cannot see in the imports of this package."""

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


# Codecs are imported by name when they are first used, and so are the public names of ours.
hiddenimports = [
    *collect_submodules("imagecodecs", filter=_is_codec),
    *sorted(set(_MODULES.values())),
]
# The filters of HDF5 are libraries, but no modules, and are looked for in this very folder.
binaries = collect_dynamic_libs("hdf5plugin")
datas = collect_data_files(
    "sparsemed", includes=["report/page.*", "report/overview.*", "report/live.*"]
)
for name in ("sparsemed", "numpy", "numba", "h5py", "hdf5plugin", "imagecodecs", "matplotlib"):
    with suppress(PackageNotFoundError):  # the report tells the versions of those there are
        datas += copy_metadata(name)
