"""Options of a run, which computes the background of a measurement or stack."""

from dataclasses import dataclass

from sparsemed.hdf5.file_access import Policy, check_policy
from sparsemed.kernels.cores import check_num_cpus
from sparsemed.parameters import Parameters
from sparsemed.rtdc.pipeline_id import to_ppid


@dataclass(frozen=True)
class RunOptions:
    """Options of a run.

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

    Raises
    ------
    ValueError
        If `num_cpus` or `basins` is no such value.
    """

    parameters: Parameters
    num_cpus: int | None = None
    basins: Policy = "any"
    redo: bool = False
    dry_run: bool = False
    thumbnails: bool = False

    def __post_init__(self) -> None:
        """Check what is not checked by `Parameters`."""
        check_policy(self.basins)
        if self.num_cpus is not None:
            check_num_cpus(self.num_cpus)

    @property
    def ppid(self) -> str:
        """Pipeline identifier of the backgrounds."""
        return to_ppid(self.parameters)
