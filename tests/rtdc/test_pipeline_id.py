import numpy as np
import pytest
from dcnum.feat.feat_background.bg_sparse_median import BackgroundSparseMed
from dcnum.meta import ppid as dcnum_ppid
from hypothesis import example, given
from hypothesis import strategies as st
from rings import examples

from sparsemed.parameters import Parameters
from sparsemed.rtdc.pipeline_id import CODE, GENERATION, from_ppid, parse_value, to_ppid

NAMES = {
    "k": "kernel_size",
    "s": "split_time",
    "t": "thresh_cleansing",
    "f": "frac_cleansing",
    "o": "offset_correction",
}


def dcnum_from_ppid(ppid):
    # Not `get_ppkw_from_ppid`: that asks dcnum's registry, in which the name may be taken over.
    return dcnum_ppid.ppid_to_kwargs(BackgroundSparseMed, "check_user_kwargs", ppid.split(":")[1])


def with_types(*types):
    return lambda value: st.sampled_from(types).map(lambda type_: type_(value))


INTEGERS = st.integers(0, 10**6).flatmap(with_types(int, np.int32, np.int64, np.uint64))
FLOATS = (
    (st.floats(0, 65000) | st.floats(0, 65000).map(round))
    .flatmap(with_types(float, np.float64, np.float32, np.float16))
    .filter(np.isfinite)
)
LARGE = st.floats(allow_nan=False, allow_infinity=False)
BOOLS = st.booleans().flatmap(with_types(bool, np.bool_, int))
VALUES = st.fixed_dictionaries(
    {},
    optional={
        "kernel_size": INTEGERS,
        "split_time": INTEGERS | FLOATS | LARGE,
        "thresh_cleansing": INTEGERS | FLOATS | LARGE,
        "frac_cleansing": INTEGERS | FLOATS | LARGE,
        "offset_correction": BOOLS,
    },
)


@examples(200)
@given(VALUES)
@example({})
@example({"split_time": np.float32(0.1), "kernel_size": np.int64(5)})
@example({"offset_correction": np.bool_(False), "frac_cleansing": 1e-7})
def test_string_is_that_of_dcnum(values):
    assert to_ppid(values) == BackgroundSparseMed.get_ppid_from_ppkw(values)


@examples(200)
@given(VALUES, st.data())
def test_strings_are_read_as_dcnum_does(values, data):
    items = to_ppid(values).partition(":")[2].split("^")
    chosen = data.draw(st.lists(st.sampled_from(items), unique=True, min_size=1))
    spelled = []
    for item in chosen:
        letter, _, text = item.partition("=")
        length = data.draw(st.integers(1, len(NAMES[letter])))
        spelled.append(f"{NAMES[letter][:length]}={text}")
    ppid = f"{CODE}:{'^'.join(spelled)}"
    found = from_ppid(ppid)
    expected = dcnum_from_ppid(ppid)
    assert found == expected
    assert list(found) == list(expected)
    assert [type(value) for value in found.values()] == [type(v) for v in expected.values()]


@pytest.mark.parametrize("text", ["true", "True", "yes", "YES", "1", "false", "no", "No", "0"])
def test_words_for_booleans(text):
    found = from_ppid(f"sparsemed:o={text}")["offset_correction"]
    assert found is dcnum_from_ppid(f"sparsemed:o={text}")["offset_correction"]


def test_defaults_are_written_and_read():
    assert to_ppid({}) == "sparsemed:k=200^s=1^t=0^f=0.8^o=1"
    found = from_ppid("sparsemed:k=200^s=1^t=0^f=0.8^o=1")
    assert Parameters(**found) == Parameters()


@given(st.floats(1e-300, 1e300), st.floats(0, 1e300), st.floats(1e-300, 1), st.booleans())
def test_floats_survive_the_round_trip(split_time, thresh_cleansing, frac_cleansing, offset):
    values = {
        "kernel_size": 7,
        "split_time": split_time,
        "thresh_cleansing": thresh_cleansing,
        "frac_cleansing": frac_cleansing,
        "offset_correction": offset,
    }
    assert from_ppid(to_ppid(values)) == values


def test_generation_and_code_are_those_of_dcnum():
    assert GENERATION == dcnum_ppid.DCNUM_PPID_GENERATION
    assert BackgroundSparseMed.get_ppid_code() == CODE


def test_unknown_names_are_refused():
    with pytest.raises(
        ValueError, match=r"^unknown parameters \['a', 'z'\]; parameters are \['frac_"
    ):
        to_ppid({"z": 1, "kernel_size": 3, "a": 2})
    with pytest.raises(ValueError, match=r"^unknown parameter 'speed'; parameters are \['frac_"):
        parse_value("speed", "3")


@pytest.mark.parametrize("slip", ["kernel_sie", "kernel-size", "Kernel_Size", "kernel", "window"])
def test_a_slip_is_answered_with_what_may_be_meant(slip):
    meant = r"; did you mean 'kernel_size'\? Parameters are \['frac_"
    with pytest.raises(ValueError, match=f"^unknown parameter {slip!r}{meant}"):
        parse_value(slip, "3")
    with pytest.raises(ValueError, match=rf"^unknown parameters \[{slip!r}\]{meant}"):
        to_ppid({slip: 3})


@pytest.mark.parametrize("ppid", ["", "sparsemed", "sparsemed:", "rollmed:k=100", "k=100", ":k=1"])
def test_other_methods_are_refused(ppid):
    with pytest.raises(ValueError, match=r"is not a PPID of the method 'sparsemed'") as caught:
        from_ppid(ppid)
    assert str(caught.value).startswith(repr(ppid))


@pytest.mark.parametrize("item", ["z=1", "kernels=1", "k", "=1", "", "K=1"])
def test_unknown_items_are_refused(item):
    with pytest.raises(ValueError, match="is none of the parameters") as caught:
        from_ppid(f"sparsemed:s=1^{item}")
    assert f"'sparsemed:s=1^{item}': {item!r} is none of the parameters ['frac_cle" in str(
        caught.value
    )


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("k=1.5", "^kernel_size: cannot read '1.5' as a whole number$"),
        ("k=", "^kernel_size: cannot read '' as a whole number$"),
        ("k=1=2", "^kernel_size: cannot read '1=2' as a whole number$"),
        ("s=fast", "^split_time: cannot read 'fast' as a number$"),
        ("th=1,5", "^thresh_cleansing: cannot read .1,5. as a number; the decimal mark is"),
        ("frac_cleansing=x", "^frac_cleansing: cannot read 'x' as a number$"),
        ("o=maybe", "^offset_correction: cannot read 'maybe' as true or false$"),
    ],
)
def test_unreadable_values_are_refused(item, message):
    with pytest.raises(ValueError, match=message):
        from_ppid(f"sparsemed:{item}")
    with pytest.raises(ValueError, match=r"."):
        dcnum_from_ppid(f"sparsemed:{item}")


def test_a_parameter_named_twice_is_refused():
    # dcnum refuses it as well, whatever the two abbreviations are.
    for ppid in ("sparsemed:k=100^k=50", "sparsemed:k=100^kernel=50"):
        with pytest.raises(ValueError, match="Unknown abbreviated key"):
            dcnum_from_ppid(ppid)
        with pytest.raises(ValueError, match="kernel"):
            from_ppid(ppid)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("kernel_size", " 50 ", 50),
        ("split_time", "1e-3", 0.001),
        ("thresh_cleansing", "2", 2.0),
        ("frac_cleansing", ".5", 0.5),
        ("offset_correction", " YES ", True),
        ("offset_correction", "0", False),
    ],
)
def test_values_are_read_from_text(name, text, value):
    found = parse_value(name, text)
    assert found == value
    assert type(found) is type(value)
