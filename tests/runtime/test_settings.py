"""The numbers of a run."""

import pytest

from mptc.runtime.errors import UserError
from mptc.runtime.settings import Settings, default_rate, settings


def test_the_rate_warms_up_and_follows_a_cosine() -> None:
    chosen = Settings(lr=1.0, steps=1000)
    rates = [chosen.rate(step) for step in range(1000)]
    assert rates[0] == pytest.approx(0.01)
    assert max(rates) == rates[99] == 1.0
    assert rates[100:] == sorted(rates[100:], reverse=True)
    assert rates[550] == pytest.approx(0.55)
    assert rates[-1] == pytest.approx(0.1, abs=1e-4)


def test_a_short_run_warms_up_too() -> None:
    assert Settings(lr=1.0, steps=20).rate(1) == 1.0


def test_a_warm_up_that_is_asked_for_is_the_one_that_runs() -> None:
    chosen = settings({"steps": 20, "warmup": 10, "lr": 1.0})
    assert [chosen.rate(step) for step in (0, 9)] == [0.1, 1.0]
    assert settings({"warmup": 0, "lr": 1.0}).rate(0) == 1.0


def test_the_default_rate_falls_with_size() -> None:
    assert default_rate(66_624) == 1e-2
    assert default_rate(100_000_000) == pytest.approx(1e-3)


@pytest.mark.parametrize(
    "given",
    [
        {"steps": 0},
        {"batch": -1},
        {"length": 1},
        {"eval_every": 0},
        {"lr": float("nan")},
        {"lr": 0.0},
        {"seed": -1},
        {"threads": -1},
        {"warmup": -1},
        {"warmup": 2000},
    ],
)
def test_numbers_out_of_range_are_named(given: dict[str, float]) -> None:
    ((name, value),) = given.items()
    with pytest.raises(UserError, match=f"--{name.replace('_', '-')} is {value:g}; it must be"):
        settings(given)


def test_what_is_not_given_keeps_its_value() -> None:
    assert settings({"steps": None, "batch": 4}, Settings(steps=7)) == Settings(steps=7, batch=4)
