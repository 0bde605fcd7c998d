"""The subnets that studies draw: a fixed sequence of distinct ones within a limit, or one clear line."""

import pytest

from glora import LayerSpec, SearchSpace
from runner.config.errors import ConfigError
from tests.helpers.spaces import small_space
from tools.supernets import draw


def test_draws_are_distinct_and_always_the_same():
    space = small_space()
    found = draw(space, 20, "a purpose")
    assert len(set(found)) == 20 and found == draw(space, 20, "a purpose") and draw(space, 5, "a purpose") == found[:5]
    assert draw(space, 20, "another") != found


def test_a_limit_leaves_those_of_the_same_sequence_that_are_within_it():
    space = small_space()
    found = draw(space, 20, "a purpose")
    limit = sorted(map(space.params, found))[9]
    assert draw(space, 10, "a purpose", limit) == [s for s in found if space.params(s) <= limit][:10]


def test_too_few_subnets_are_one_line_that_says_what_to_do():
    space = SearchSpace((LayerSpec("head", 2, 2),), (1,))
    number = 3 * 4 * 3 * 3 * 4  # options of the five tensors
    with pytest.raises(ConfigError, match=r"gave \d+ distinct ones; ask for no more than that$"):
        draw(space, number + 1, "a purpose")
    with pytest.raises(ConfigError, match=r"gave 0 .* of at most -1 parameters; .* raise search\.max_params or"):
        draw(space, 3, "a purpose", -1)
