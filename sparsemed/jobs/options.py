"""Options for each of many measurements or stacks."""

from dataclasses import dataclass

from sparsemed.hdf5.file_access import Policy
from sparsemed.parameters import Parameters
from sparsemed.rtdc.pipeline_id import to_ppid


@dataclass(frozen=True)
class RunOptions:
    """Options for each of many measurements.

    Attributes
    ----------
    parameters : Parameters
    num_cpus : int or None
        Largest number of threads; None: the worker or this process decides.
    basins : str
        Which other files a measurement may lead to.
    redo : bool
        Whether to compute measurements that are up to date, too.
    dry_run : bool
        Whether only to return what would be done.
    thumbnails : bool
        Whether computed results come with a thumbnail.
    """

    parameters: Parameters
    num_cpus: int | None = None
    basins: Policy = "any"
    redo: bool = False
    dry_run: bool = False
    thumbnails: bool = False

    @property
    def ppid(self) -> str:
        """Pipeline identifier of the backgrounds."""
        return to_ppid(self.parameters)
