"""Any bytes are a basin record that does no harm, or refused.

As a script, it looks for bytes with which that is not so::

    pip install -e ".[fuzz]"
    PYTHONPATH=tests python tests/fuzz/records.py -max_total_time=300 tests/fuzz/corpus/records
"""

import json
import json.decoder
import sys
from inspect import isfunction
from pathlib import Path

from sparsemed.hdf5.file_access import FileAccess
from sparsemed.rtdc import basins
from sparsemed.rtdc.basins import Basin, parse_record, search_order
from sparsemed.rtdc.search import as_spelled, places_of

LABEL = "file.rtdc: basins/record"


KEYS = ("name", "type", "paths", "features", "mapping", "identifier")
VALUES = (
    *(None, 0, -1.5, True, 10**400, float("nan"), {}, {"a": []}, [], [None], [[]], ["image", 3]),
    *("", "file", "internal", "basinmap0", "a\0b", "\ud800", "%s{}", "x" * 3000),
    *([each] for each in ("", "/", "../in.rtdc", "/dev/null", "basin_events", "a\0b", "\ud800")),
)


def check(data):
    """Parse a record, and ask all that is ever asked of it.

    Bytes are a text, or where they begin with one from 128 on, pairs of key and value.
    """
    text = bytes(data)
    if text and text[0] >= 128:
        pairs = zip(text[1::2], text[2::2], strict=False)
        entries = {KEYS[key % len(KEYS)]: VALUES[value % len(VALUES)] for key, value in pairs}
        text = json.dumps(entries, indent=text[0] % 4).encode()
    try:
        record = parse_record(text.split(b"\n"), LABEL)
    except ValueError as error:
        if str(error).startswith(f"{LABEL} is not") and len(str(error)) < 2000:
            return
        raise
    basin = Basin("record", record)
    assert isinstance(basin.name, str)
    assert isinstance(basin.paths, list)
    assert basin.features is None or isinstance(basin.features, list)
    assert basin.mapping is None or isinstance(basin.mapping, str)
    assert not (basin.is_file and basin.is_internal)
    assert search_order([basin, basin]) == [basin, basin]
    assert all(isinstance(host, str) for host in basin.hosts)
    for place in places_of(basin.paths, Path("/nowhere")):
        assert place.is_absolute()
        assert FileAccess("/nowhere/in.rtdc", "off").refusal(place)
        assert as_spelled(place) is None or as_spelled(place).parent.is_dir()


if __name__ == "__main__":
    import atheris

    for part in (check, *vars(basins).values(), *vars(json.decoder).values()):
        if isfunction(part):
            atheris.instrument_func(part)
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()
