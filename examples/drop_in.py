"""The background of a measurement, with the class that dcnum's users know."""

import sys
from pathlib import Path

# was: from dcnum.feat.feat_background.bg_sparse_median import BackgroundSparseMed
from sparsemed import BackgroundSparseMed
from sparsemed.demo import make_measurement

if len(sys.argv) > 1:
    path = Path(sys.argv[1])
else:
    path = Path("example.rtdc")
    if not path.exists():
        make_measurement(path, count=500)

with BackgroundSparseMed(path, path.with_name("example_bg.rtdc"), split_time=0.5) as job:
    job.process()
    print(job.get_ppid(), "→", job.output_path)
