#!/bin/sh
# ChipStream on a measurement, with sparsemed computing the background.
set -eu

path=${1:-example.rtdc}
if [ $# -eq 0 ] && [ ! -e "$path" ]; then
    python -c "
from pathlib import Path
from sparsemed.demo import make_measurement
make_measurement(Path('$path'), count=500)"
fi

sparsemed chipstream --verbose -kb split_time=0.5 "$path"
