"""The only door: opens frames of any kind, with their times and their identity.

`door` chooses the kind of input; each kind is a module.

May import: rtdc, method, frames, hdf5, executors, storage, kernels.
"""

from sparsemed.inputs.door import open_again as open_again
from sparsemed.inputs.door import open_input as open_input
from sparsemed.inputs.given import Input as Input
