"""Whatever happens to folders and names meanwhile, a result belongs to its frames."""

import os
import shutil
from concurrent.futures import ProcessPoolExecutor

import h5py
import numpy as np
import pytest
import tifffile
from jobs.measurements import measure

from sparsemed import BackgroundSparseMed, compute_background, compute_files, load
from sparsemed.inputs import open_again, open_input
from sparsemed.rtdc.basins import file_record, read_basins, store_record
from sparsemed.rtdc.identity import DIGEST_ATTRIBUTE, digest_of
from sparsemed.rtdc.measurement import Measurement

SETTINGS = {"kernel_size": 7}


def replace_file(path, **how):
    """Put another measurement in the place of one: of the same size, time of writing, and axis."""
    before, other = path.stat(), path.with_name("other")
    measure(other, seed=1, **how)
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    os.replace(other, path)


@pytest.fixture(params=["identifier", "no identifier"])
def path(request, tmp_path, monkeypatch):
    """Return a measurement, which the working folder leads to by its bare name."""
    path = measure(tmp_path / "a" / "M001.rtdc", identifier=_identifier(request.param))
    measure(tmp_path / "b" / "M001.rtdc", seed=1, identifier=_identifier(request.param))
    monkeypatch.chdir(path.parent)
    return path


def _identifier(kind):
    return "M" if kind == "identifier" else None


def leads_to(output):
    with h5py.File(output) as h5:
        return [path for basin in read_basins(h5) if basin.is_file for path in basin.paths]


def test_a_result_belongs_to_its_measurement_wherever_one_works_by_then(path, monkeypatch):
    background = compute_background("M001.rtdc", **SETTINGS)
    assert background.source == path
    monkeypatch.chdir("../b")
    background.save("../out.rtdc")
    assert leads_to("../out.rtdc") == [str(path), "a/M001.rtdc"]
    assert background.quality() == compute_background(path, **SETTINGS).quality()


def test_the_class_does_not_look_for_its_files_anew(path, monkeypatch):
    with BackgroundSparseMed("M001.rtdc", "out.rtdc", **SETTINGS) as job:
        monkeypatch.chdir("../b")
        job.process()
        job.process()
        np.testing.assert_array_equal(job.input_data[:], compute_frames(path))
    assert leads_to(path.with_name("out.rtdc")) == ["M001.rtdc"]
    assert os.listdir() == ["M001.rtdc"]


def compute_frames(path):
    with h5py.File(path) as h5:
        return h5["events/image"][:]


def test_basins_are_looked_for_where_they_were(path, monkeypatch):
    with h5py.File("export.rtdc", "w") as h5:
        h5.create_group("events")
        store_record(h5, file_record("b", None, ["M001.rtdc"], None, None), {})
    with open_input("export.rtdc") as given:
        monkeypatch.chdir("../b")
        found = given.frames
        assert given.data.file.filename == str(path)
        assert found.shape == (24, 24, 16)


def test_a_measurement_that_was_replaced_is_refused(path, tmp_path):
    background = compute_background(path, **SETTINGS)
    replace_file(path, identifier=None if background.identity.identifier is None else "M")
    message = r"M001\.rtdc: was replaced or changed since its frames were read"
    for act in (background.quality, background.plot, lambda: background.save(tmp_path / "o.rtdc")):
        with pytest.raises(ValueError, match=message):
            act()
    with pytest.raises(ValueError, match=message):
        background.report(tmp_path / "page.html")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a", "b"]


@pytest.mark.skipif(os.name == "nt", reason="an open file cannot be replaced there")
def test_the_class_refuses_it_as_well(path, monkeypatch):
    with BackgroundSparseMed(path, "out.rtdc", **SETTINGS) as job:
        process = job._compute
        monkeypatch.setattr(job, "_compute", lambda: (process(), replace_file(path))[0])
        with pytest.raises(ValueError, match="was replaced or changed since"):
            job.process()
    assert os.listdir() == ["M001.rtdc"]


def test_what_is_added_to_a_measurement_does_not_make_it_another(path):
    background = compute_background(path, **SETTINGS)
    background.save(path, in_place=True)
    with h5py.File(path, "a") as h5:
        h5["events/userdef1"] = np.zeros(24)
    background.save(path, in_place=True)
    background.save("out.rtdc")
    assert load("out.rtdc").source == path.with_name("out.rtdc")


def test_a_background_is_not_written_into_another_measurement(path):
    background = compute_background(path, **SETTINGS)
    other = path.parent.with_name("b") / path.name
    whole = other.read_bytes()
    with pytest.raises(
        ValueError, match=r"b.M001\.rtdc: (holds other frames or times|belongs to another)"
    ):
        background.save(other, in_place=True)
    assert other.read_bytes() == whole
    copy = shutil.copyfile(path, path.with_name("copy.rtdc"))
    background.save(copy, in_place=True)


def test_a_result_says_of_which_frames_it_is_but_not_that_of_the_class(path):
    background = compute_background(path, **SETTINGS)
    background.save("saved.rtdc")
    with BackgroundSparseMed(path, "job.rtdc", **SETTINGS) as job:
        job.process()
    kept = []
    for name in ("saved.rtdc", "job.rtdc"):
        with h5py.File(name) as h5:
            kept.append(h5["basin_events/image_bg"].attrs.get(DIGEST_ATTRIBUTE))
    assert kept == [background.identity.digest, None]


def test_a_loaded_background_is_not_compared_with_frames_of_another(path, warned):
    compute_background(path, **SETTINGS).save("out.rtdc")
    assert load("out.rtdc").source is not None
    replace_file(path, identifier=None)
    with h5py.File(path, "a") as h5, h5py.File("out.rtdc") as out:
        h5.attrs.update(out.attrs)
    found = load("out.rtdc")
    assert found.source is None
    assert "its background was computed from other frames" in warned()[-1]


@pytest.mark.parametrize(
    "stored", [{"chunks": (5, 24, 16), "compression": "gzip"}, {"dtype": ">u1"}, {"chunks": True}]
)
def test_the_digest_is_of_what_is_stored_and_not_how(path, stored):
    with h5py.File("again.rtdc", "w") as h5, h5py.File(path) as raw:
        h5.create_dataset("events/image", data=raw["events/image"][:], **stored)
        h5.create_dataset("events/time", data=raw["events/time"][:], dtype=">f8")
    with Measurement("again.rtdc") as again, Measurement(path) as measurement:
        assert digest_of(again, 24) == digest_of(measurement, 24)
        assert digest_of(again, 23) != digest_of(measurement, 24)


def test_a_basin_that_is_gone_does_not_make_a_measurement_another(path):
    with h5py.File("export.rtdc", "w") as h5:
        h5.create_group("events")
        store_record(h5, file_record("b", None, [str(path)], None, None), {})
    background = compute_background("export.rtdc", **SETTINGS)
    path.unlink()
    background.save("out.rtdc")
    shutil.copyfile("../b/M001.rtdc", path)
    with pytest.raises(ValueError, match="was replaced or changed since"):
        background.save("out.rtdc")


def _double(frames):
    return frames * 2


@pytest.mark.parametrize("suffix", [".tif", ".zarr"])
def test_a_stack_that_was_replaced_is_refused(tmp_path, monkeypatch, suffix):
    import zarr

    frames = np.random.default_rng(0).integers(0, 99, (30, 24, 16), dtype=np.uint8)

    def write(name, data):
        if suffix == ".tif":
            tifffile.imwrite(name, data, photometric="minisblack", compression="zlib")
        else:
            zarr.create_array(str(name), data=data, overwrite=True)

    monkeypatch.chdir(tmp_path)
    name = f"stack{suffix}"
    write(name, frames)
    background = compute_background(name, frame_rate=10, **SETTINGS)
    (tmp_path / "b").mkdir()
    monkeypatch.chdir("b")
    assert background.stack == tmp_path / name
    assert background.quality() == background.quality(frames)
    write(tmp_path / name, _double(frames))
    with pytest.raises(ValueError, match=f"^stack{suffix}: was replaced or changed since"):
        background.quality()


def ome_of_two_files(folder, frames):
    """Write frames as an OME-TIFF of two files, as Micro-Manager does."""
    half = len(frames) // 2
    uuid = "urn:uuid:00000000-0000-4000-8000-00000000000{}"
    pages = "".join(
        f'<TiffData FirstT="{t}" IFD="{t % half}" PlaneCount="1">'
        f'<UUID FileName="part{t // half}.ome.tif">{uuid.format(t // half)}</UUID></TiffData>'
        for t in range(len(frames))
    )
    _, height, width = frames.shape
    for part in (0, 1):
        text = (
            '<?xml version="1.0" encoding="UTF-8"?>'
            '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            f'UUID="{uuid.format(part)}"><Image ID="Image:0"><Pixels ID="Pixels:0" Type="uint8" '
            f'DimensionOrder="XYCZT" SizeX="{width}" SizeY="{height}" SizeC="1" SizeZ="1" '
            f'SizeT="{len(frames)}">{pages}</Pixels></Image></OME>'
        )
        tifffile.imwrite(
            folder / f"part{part}.ome.tif",
            frames[part * half :][:half],
            description=text,
            metadata=None,
            photometric="minisblack",
            compression="zlib",
        )
    return folder / "part0.ome.tif"


def test_each_file_of_a_stack_counts(tmp_path):
    frames = np.random.default_rng(0).integers(0, 99, (30, 24, 16), dtype=np.uint8)
    path = ome_of_two_files(tmp_path, frames)
    background = compute_background(path, frame_rate=10, **SETTINGS)
    assert background.quality() == background.quality(frames)
    tifffile.imwrite(tmp_path / "part1.ome.tif", frames[:15], metadata=None, compression="zlib")
    with pytest.raises(ValueError, match="was replaced or changed since"):
        background.quality()


@pytest.mark.parametrize("kind", ["link", "virtual dataset", "raw file"])
def test_the_file_to_which_a_dataset_leads_counts(tmp_path, kind):
    path, away = tmp_path / "stack.h5", tmp_path / "away.h5"
    frames = np.random.default_rng(0).integers(0, 99, (30, 24, 16), dtype=np.uint8)

    def write(frames):
        if kind == "raw file":
            away.write_bytes(frames.tobytes())
            return
        with h5py.File(away, "w") as h5:
            h5["film"] = frames

    write(frames)
    with h5py.File(path, "w") as h5:
        if kind == "link":
            h5["film"] = h5py.ExternalLink("away.h5", "film")
        elif kind == "virtual dataset":
            layout = h5py.VirtualLayout(frames.shape, "u1")
            layout[:] = h5py.VirtualSource(str(away), "film", frames.shape)
            h5.create_virtual_dataset("film", layout)
        else:
            external = [(str(away), 0, h5py.h5f.UNLIMITED)]
            h5.create_dataset("film", frames.shape, "u1", external=external)
    given = {"dataset": "film", "frame_rate": 10, **SETTINGS}
    background = compute_background(path, **given)
    assert background.quality() == background.quality(frames)

    def compute():
        (result,) = compute_files(path, tmp_path / "out.tif", **given)
        return result.status

    assert [compute(), compute()] == ["done", "skipped"]
    write(255 - frames)
    with pytest.raises(ValueError, match="was replaced or changed since"):
        background.quality()
    assert compute() == "done"


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_chunks_of_a_zarr_count_but_other_arrays_do_not(tmp_path, zarr_format):
    import zarr

    frames = np.random.default_rng(0).integers(0, 99, (30, 24, 16), dtype=np.uint8)
    path = tmp_path / "stack.zarr"
    group = zarr.open_group(path, mode="w", zarr_format=zarr_format)
    array = group.create_array("frames", shape=frames.shape, chunks=(2, 24, 16), dtype="u1")
    array[:] = frames
    background = compute_background(path, dataset="frames", frame_rate=10, **SETTINGS)
    group.create_array("background", data=background.images)
    assert background.quality() == background.quality(frames)
    array[17] = frames[16]
    with pytest.raises(ValueError, match="was replaced or changed since"):
        background.quality()


@pytest.mark.parametrize("kind", ["zarr", "video", "images"])
def test_a_stack_is_read_where_it_was_when_one_works_elsewhere_meanwhile(
    tmp_path, monkeypatch, kind
):
    import av
    import zarr

    frames = np.random.default_rng(0).integers(0, 99, (30, 24, 16), dtype=np.uint8)
    for folder, images in (("a", frames), ("b", frames[::-1])):
        (tmp_path / folder).mkdir()
        monkeypatch.chdir(tmp_path / folder)
        if kind == "zarr":
            zarr.create_array("stack", data=images, chunks=(3, 24, 16))
        elif kind == "video":
            with av.open("stack.mkv", "w") as file:
                stream = file.add_stream("ffv1", rate=10)
                stream.width, stream.height, stream.pix_fmt = 16, 24, "gray"
                for image in images:
                    file.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="gray")))
                file.mux(stream.encode())
        else:
            os.mkdir("stack")
            for number, image in enumerate(images):
                tifffile.imwrite(f"stack/{number}.tif", image)
    monkeypatch.chdir(tmp_path / "a")
    found = compute_background(
        "stack.mkv" if kind == "video" else "stack",
        frame_rate=10,
        progress=lambda _: os.chdir(tmp_path / "b"),
        **SETTINGS,
    )
    expected = compute_background(frames, frame_rate=10, **SETTINGS)
    np.testing.assert_array_equal(found.series, expected.series)


def elsewhere():
    os.chdir("/")


def test_workers_in_another_folder_find_a_dataset_by_its_file(path):
    expected = compute_background(path, **SETTINGS)
    with h5py.File("M001.rtdc") as h5, ProcessPoolExecutor(1, initializer=elsewhere) as pool:
        found = compute_background(
            h5["events/image"], np.arange(24.0), executor=pool, ranges=2, **SETTINGS
        )
    np.testing.assert_array_equal(found.series, expected.series)


@pytest.mark.parametrize("kind", ["folder", "zip", "dask", "dask inline", "axes"])
def test_workers_in_another_folder_find_the_store_of_a_zarr_array(tmp_path, monkeypatch, kind):
    import dask.array
    import zarr

    frames = np.random.default_rng(0).integers(0, 99, (30, 24, 16), dtype=np.uint8)
    monkeypatch.chdir(tmp_path)
    if kind == "zip":
        with zarr.storage.ZipStore("stack.zip", mode="w") as store:
            zarr.create_array(store, data=frames)
        array = zarr.open_array(zarr.storage.ZipStore("stack.zip", mode="r"), mode="r")
    elif kind == "axes":
        images, names = np.moveaxis(frames, 0, -1), ("y", "x", "t")
        zarr.create_array("stack", data=images, dimension_names=names)
        array = zarr.open_array("stack", mode="r")
    else:
        zarr.create_array("stack", data=frames, chunks=(5, 24, 16))
        array = zarr.open_array("stack", mode="r")
    if kind.startswith("dask"):
        array = dask.array.from_array(array, inline_array=kind == "dask inline") + np.uint8(0)
    with ProcessPoolExecutor(1, initializer=elsewhere) as pool:
        found = compute_background(array, frame_rate=10, executor=pool, ranges=2, **SETTINGS)
    expected = compute_background(frames, frame_rate=10, **SETTINGS)
    np.testing.assert_array_equal(found.series, expected.series)


def test_a_worker_without_the_store_says_so(tmp_path):
    import zarr

    frames = np.random.default_rng(0).integers(0, 99, (30, 24, 16), dtype=np.uint8)
    array = zarr.create_array(tmp_path / "stack", data=frames)
    opener = open_input(array).open_part(3, 9)
    with opener(1) as part:
        assert part.shape == (6, 24, 16)
    shutil.rmtree(tmp_path / "stack")
    with pytest.raises(OSError, match=r"stack is not there for this worker"), opener(1):
        pass
    zarr.create_array(tmp_path / "stack", data=frames[:20])
    with pytest.raises(OSError, match=r"stack: is another file for a worker"), opener(1):
        pass


@pytest.mark.skipif(os.name == "nt", reason="an open file cannot be replaced there")
def test_a_dataset_whose_name_is_that_of_another_file_by_now_is_sent(path, monkeypatch):
    with h5py.File("M001.rtdc") as h5:
        expected = compute_background(path, **SETTINGS)
        monkeypatch.chdir("../b")
        found = compute_background(h5["events/image"], np.arange(24.0), ranges=2, **SETTINGS)
    np.testing.assert_array_equal(found.series, expected.series)


def test_the_door_closes_what_it_refuses(path):
    background = compute_background(path, **SETTINGS)
    replace_file(path)
    with pytest.raises(ValueError, match="was replaced"):
        open_again(background)
    with h5py.File(path, "a"):  # nobody has it open
        pass
