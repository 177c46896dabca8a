"""Random numbers of a sample: the same for the same integers on every machine, others for any other."""

import itertools

from viewtime.data.samples import generator_for


def draw(*entropy: int) -> tuple[int, ...]:
    return tuple(generator_for(*entropy).integers(0, 1 << 30, 4).tolist())


def test_every_integer_counts_and_its_place():
    keys = [(3,), (3, 1), (1, 3), (3, 1, 4), (3, 2, 4), (2, 1, 4), (3, 1, 5), (3, 1, 4, 9), (3, 1, 4, 1 << 40)]
    assert draw(3, 1, 4) == draw(3, 1, 4)
    for first, second in itertools.combinations(keys, 2):
        assert draw(*first) != draw(*second), (first, second)


def test_the_numbers_stay_what_runs_before_drew():
    assert draw(3, 1, 4) == (812642681, 377024678, 614888457, 966386653)
