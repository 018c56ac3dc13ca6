import numpy as np
import pyarrow as pa
import pytest

from bandicoot_core.errors import InvalidSettingError
from bandicoot_core.policy.experiment import assign_arms, is_control

MANY = [f"CG-{number:05d}" for number in range(20_000)]


def test_an_arm_follows_from_the_first_eight_hex_digits_of_the_hash():
    # md5 of "demo:CG-12345" starts with 1912c575 as `printf demo:CG-12345 | md5sum` prints.
    draw = 0x1912C575 / 2**32
    assert is_control(["CG-12345"], experiment="demo", control_share=draw + 1e-9).tolist() == [True]
    assert is_control(["CG-12345"], experiment="demo", control_share=draw).tolist() == [False]


def test_arms_do_not_depend_on_who_else_is_assigned():
    together = assign_arms(MANY, experiment="demo", control_share=0.3)
    apart = assign_arms(MANY[7_000:7_010][::-1], experiment="demo", control_share=0.3)
    assert apart.tolist() == together[7_000:7_010][::-1].tolist()


def test_the_control_arm_has_the_share_asked_for():
    control = is_control(MANY, experiment="demo", control_share=0.1)
    assert control.dtype == np.bool_
    assert abs(control.mean() - 0.1) < 4 * np.sqrt(0.1 * 0.9 / len(MANY))


def test_a_larger_share_only_moves_caregivers_into_the_control_arm():
    small = is_control(MANY, experiment="demo", control_share=0.1)
    large = is_control(MANY, experiment="demo", control_share=0.2)
    assert large[small].all()
    assert large.sum() > small.sum()


def test_another_experiment_draws_independently():
    first = is_control(MANY, experiment="demo", control_share=0.5)
    second = is_control(MANY, experiment="autumn", control_share=0.5)
    assert abs((first & second).mean() - 0.25) < 0.02


def test_shares_of_nothing_and_everything_are_exact():
    assert set(assign_arms(MANY[:500], experiment="demo", control_share=0)) == {"treatment"}
    assert set(assign_arms(MANY[:500], experiment="demo", control_share=1)) == {"control"}


def test_arrow_arrays_are_taken_as_they_are():
    expected = assign_arms(MANY[:100], experiment="demo", control_share=0.4).tolist()
    assert assign_arms(pa.array(MANY[:100]), experiment="demo", control_share=0.4).tolist() == expected
    assert assign_arms(pa.array([], pa.string()), experiment="demo", control_share=0.4).shape == (0,)


def test_a_share_outside_its_bounds_is_refused():
    with pytest.raises(InvalidSettingError, match=r"control_share is 1\.5; it must lie between 0 and 1"):
        is_control(MANY, experiment="demo", control_share=1.5)


def test_a_missing_id_is_refused():
    with pytest.raises(ValueError, match=r"caregiver_ids\[1\] is null"):
        is_control(pa.array(["CG-1", None]), experiment="demo", control_share=0.1)
