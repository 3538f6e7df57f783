"""What dcnum's own tests demand of the class, demanded of ours."""

import json

import h5py
import numpy as np
import pytest
from dcnum.read import HDF5Data, concatenated_hdf5_data
from dcnum.write import HDF5Writer, create_with_basins
from parity.compare import differences
from parity.oracle import dcnum_background

from sparsemed import BackgroundSparseMed


def ramp(count):
    """Frames of 5 × 7 pixels that are all alike: 0, 1, … 34."""
    return np.arange(35.0).reshape(1, 5, 7) * np.ones((count, 1, 1))


def basin_records(path):
    with h5py.File(path) as h5:
        return [json.loads(b"\n".join(lines[:])) for lines in h5["basins"].values()]


@pytest.mark.parametrize(
    ("count", "kernel_size", "split_time"),
    [(720, 10, 0.01), (730, 10, 0.01), (720, 11, 0.01), (720, 11, 0.011)],
)
def test_time_axis_of_an_array(tmp_path, count, kernel_size, split_time):
    path = tmp_path / "out.h5"
    duration = count / 3600 * 1.5
    with BackgroundSparseMed(
        ramp(count), path, kernel_size=kernel_size, split_time=split_time
    ) as job:
        assert job.kernel_size == kernel_size
        assert job.duration == duration
        np.testing.assert_allclose(job.time, np.linspace(0, duration, count))
        np.testing.assert_allclose(job.step_times, np.arange(0, duration, split_time))
        assert job.get_progress() == 0
        job.process()
        assert job.get_progress() == 1
    assert path.exists()


def test_single_bright_frames_go_into_the_offset(tmp_path):
    images = ramp(720)
    brighter = np.zeros(720)
    brighter[[3, 25, 101]] = 1, 2, 3
    images += brighter[:, None, None]
    with BackgroundSparseMed(images, tmp_path / "out.h5", kernel_size=10, split_time=0.01) as job:
        job.process()
    with HDF5Data(tmp_path / "out.h5") as data:
        np.testing.assert_array_equal(data["bg_off"], brighter)
        remainder = images - data["image_bg"] - data["bg_off"].reshape(-1, 1, 1)
    assert not remainder.any()


def test_a_spell_of_bright_frames_goes_into_the_image(tmp_path):
    images = ramp(720)
    time = np.linspace(0, 0.3, 720)
    start, stop = (np.argmin(abs(time - moment)) for moment in (0.15, 0.16))
    images[start:stop] += 4
    images[[3, 25, 101]] += 2
    with BackgroundSparseMed(images, tmp_path / "out.h5", kernel_size=10, split_time=0.01) as job:
        job.process()
    with HDF5Data(tmp_path / "out.h5") as data:
        first = data["image_bg"][0]
        for frame in (3, 25, 101):
            np.testing.assert_array_equal(data["image_bg"][frame], first)
        for frame in range(start - 5, start + 5):
            np.testing.assert_array_equal(data["image_bg"][frame], first + 4)


def edit(path, **features):
    """Remove the background and set or remove features."""
    with h5py.File(path, "a") as h5:
        del h5["events/image_bg"]
        for name, values in features.items():
            del h5["events"][name]
            if values is not None:
                h5["events"][name] = values


def test_the_time_of_the_file_counts(real, tmp_path):
    path = real("2023")
    time = np.linspace(0, 1, 40)
    edit(path, time=time)
    with BackgroundSparseMed(path, tmp_path / "out.h5", kernel_size=7, split_time=0.11) as job:
        assert job.duration == 1
        np.testing.assert_array_equal(job.time, time)
        np.testing.assert_array_equal(job.step_times, np.arange(0, 1, 0.11))
        job.process()
    with h5py.File(tmp_path / "out.h5") as h5:
        assert "image_bg" not in h5["events"]
        assert h5["basin_events/image_bg"].shape == (8, 80, 400)


def test_frame_numbers_and_rate_stand_in_for_time(real, tmp_path):
    path = real("2023")
    edit(path, time=None, frame=np.arange(0, 40000, 1000) + 100)
    with h5py.File(path, "a") as h5:
        h5.attrs["imaging:frame rate"] = 5000
    with BackgroundSparseMed(path, tmp_path / "out.h5", kernel_size=7, split_time=0.11) as job:
        np.testing.assert_allclose(job.time, np.arange(0, 8, 0.2), rtol=0, atol=1e-12)
        job.process()
    with h5py.File(tmp_path / "out.h5") as h5:
        assert h5["basin_events/image_bg"].shape == (57, 80, 400)


def test_the_rate_alone_stands_in_for_time(real, tmp_path):
    path = real("2023")
    edit(path, time=None, frame=None)
    with h5py.File(path, "a") as h5:
        h5.attrs["imaging:frame rate"] = 5000
    with BackgroundSparseMed(path, tmp_path / "out.h5", kernel_size=7, split_time=0.11) as job:
        np.testing.assert_array_equal(job.time, np.linspace(0, 40 / 5000 * 1.5, 40))
        job.process()
    with h5py.File(tmp_path / "out.h5") as h5:
        assert h5["basin_events/image_bg"].shape == (1, 80, 400)


def test_each_part_of_a_concatenated_measurement_has_its_image(real, tmp_path):
    part = real("2023")
    path = tmp_path / "concatenated.rtdc"
    with concatenated_hdf5_data([part] * 10, path_out=path):
        pass
    with h5py.File(path, "a") as h5:
        images = h5["events/image"][:] + np.repeat(np.arange(10, dtype=np.uint8), 40)[:, None, None]
        for name in ("image", "image_bg"):
            del h5["events"][name]
        h5["events/image"] = images
        h5["events/time"] = np.linspace(0, 1, 400, endpoint=False)
    with BackgroundSparseMed(path, tmp_path / "out.h5", kernel_size=20, split_time=0.1) as job:
        assert job.duration == 0.9975
        job.process()
    first = np.partition(images[:20], 10, axis=0)[10]
    with HDF5Data(tmp_path / "out.h5") as data:
        assert data["basinmap0"][0] == 0
        for number in range(10):
            image = data["image_bg"][40 * number]
            np.testing.assert_array_equal(data["image_bg"][40 * number + 5], image)
            # A step falls on the frame before or after, as rounding has it.
            assert np.count_nonzero(image != first + number) < 4


def test_the_ppid_keeps_the_kernel_size_that_was_asked_for(tmp_path):
    with BackgroundSparseMed(ramp(34), tmp_path / "out.h5", split_time=0.01) as job:
        assert job.kernel_size == 34
        assert job.get_ppid() == "sparsemed:k=200^s=0.01^t=0^f=0.8^o=1"
        job.process()
    with h5py.File(tmp_path / "out.h5") as h5:
        attributes = h5["basin_events/image_bg"].attrs
        assert attributes["dcnum ppid background"] == "sparsemed:k=200^s=0.01^t=0^f=0.8^o=1"
        assert attributes["dcnum ppid generation"] == "13"
        assert len(h5["basin_events/image_bg"]) == 2


def test_basins_of_the_input_are_passed_on(tmp_path):
    raw, path, output = (tmp_path / name for name in ("raw.h5", "in.h5", "out.h5"))
    with h5py.File(raw, "w") as h5:
        h5["events/image"] = ramp(720)
    create_with_basins(path, [raw])
    with BackgroundSparseMed(path, output, kernel_size=10, split_time=0.011) as job:
        assert job.get_progress() == 0
        job.process()
        assert job.get_progress() == 1
    paths = [record["paths"][0] for record in basin_records(output)]
    assert sorted(paths) == sorted([str(raw), str(path), "basin_events"])
    with HDF5Data(output) as data:
        assert "image" in data
        assert "image_bg" in data


def test_mapped_basins_of_the_input_are_passed_on_in_the_same_order(tmp_path):
    path = tmp_path / "in.rtdc"
    rng = np.random.default_rng(0)
    with HDF5Writer(path, mode="w") as writer:
        writer.h5["events/image"] = np.zeros((30, 5, 7), np.uint8)
        for name in "zyxw":
            writer.store_basin(
                name, paths=["gone.rtdc"], features=[name], mapping=rng.permutation(30)
            )
    with dcnum_background(path, tmp_path / "dcnum.rtdc") as job:
        job.process()
    with BackgroundSparseMed(path, tmp_path / "ours.rtdc") as job:
        job.process()
    assert differences(tmp_path / "dcnum.rtdc", tmp_path / "ours.rtdc") == []


@pytest.mark.parametrize("name", ["in.h5", "out.h5"])
def test_output_may_be_the_input(tmp_path, name):
    path, output = tmp_path / "in.h5", tmp_path / name
    with h5py.File(path, "w") as h5:
        h5["events/image"] = ramp(720)
    with BackgroundSparseMed(path, output, kernel_size=10, split_time=0.011) as job:
        job.process()
    expected = {"internal": "basin_events"} | ({} if output == path else {"file": str(path)})
    assert {r["type"]: r["paths"][0] for r in basin_records(output)} == expected
    with HDF5Data(output) as data:
        assert "image" in data
        assert "image_bg" in data


def test_an_array_has_no_basin_but_the_internal_one(tmp_path):
    with BackgroundSparseMed(ramp(720), tmp_path / "out.h5", kernel_size=10) as job:
        job.process()
    assert [r["type"] for r in basin_records(tmp_path / "out.h5")] == ["internal"]


@pytest.mark.parametrize(
    "ppid",
    [
        "sparsemed:k=200^s=1^t=0^f=0.8^o=1",
        "sparsemed:k=210^s=1^t=0^f=0.8^o=1",
        "sparsemed:k=200^s=2^t=0^f=0.8^o=1",
        "sparsemed:k=200^s=1^t=0.1^f=0.8^o=1",
        "sparsemed:k=200^s=1^t=0^f=0.9^o=1",
        "sparsemed:k=200^s=1^t=0^f=0.9^o=0",
    ],
)
def test_a_ppid_can_be_repeated(tmp_path, ppid):
    parameters = BackgroundSparseMed.get_ppkw_from_ppid(ppid)
    with BackgroundSparseMed(ramp(120), tmp_path / "out.h5", **parameters) as job:
        assert job.get_ppid() == ppid
    assert BackgroundSparseMed.get_ppid_from_ppkw(parameters) == ppid
    assert BackgroundSparseMed.get_ppid_code() == "sparsemed"
