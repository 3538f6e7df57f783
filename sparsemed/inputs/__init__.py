"""The only door: whatever frames come as, it opens them, with their times and who they are.

`door` says which kind of input suits what is given; each kind is a module.

May import: rtdc, method, frames, hdf5, executors, storage, kernels.
"""

from sparsemed.inputs.door import open_again as open_again
from sparsemed.inputs.door import open_input as open_input
from sparsemed.inputs.given import Input as Input
