"""``make kills``, a few of them."""

import random

from engine_kills import run


def test_stacks_are_consistent_whenever_the_engine_is_killed(tmp_path):
    seed = random.randrange(10**6)
    print("seed", seed)
    run(tmp_path, kills=5, seed=seed, clients=3)
