"""A whole dcnum job, in which sparsemed computes the background."""

import sys
from pathlib import Path

import h5py
from dcnum.logic import DCNumJobRunner, DCNumPipelineJob

import sparsemed.dcnum
from sparsemed.demo import make_measurement


def main() -> None:
    """Run the job on the measurement given, or on a made-up one."""
    if len(sys.argv) > 1:
        path = Path(sys.argv[1])
    else:
        path = Path("example.rtdc")
        if not path.exists():
            make_measurement(path, count=500)

    sparsemed.dcnum.register()
    output = path.with_name(f"{path.stem}_dcn.rtdc")
    job = DCNumPipelineJob(path_in=path, path_out=output, background_kwargs={"split_time": 0.5})
    with DCNumJobRunner(job) as runner:
        runner.run()

    with h5py.File(output) as h5:
        print(h5.attrs["pipeline:dcnum background"], "→", output)
        print(h5.attrs["experiment:event count"], "events")
        log = next(log for name, log in h5["logs"].items() if name.startswith("dcnum-log"))
        print("\n".join(line.decode() for line in log if b"sparsemed" in line))


if __name__ == "__main__":  # dcnum starts processes, and each of them imports this script
    main()
