"""What is replayed where: the fixed tenth, and the combinations that MATRIX names."""

from collections import Counter

import cases
import matrix
import pytest
import rig
from matrix import Combination, Value


@pytest.fixture
def dimensions(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it may be one day."""
    loops = {"a": Value(("--loop", "a")), "b": Value(("--loop", "b")), "c": Value()}
    transports = {"x": Value(), "y": Value(settings={"heatperf": {"transport": "y"}})}
    monkeypatch.setattr(matrix, "DIMENSIONS", {"loop": loops, "transport": transports})
    monkeypatch.setattr(matrix, "DEFAULT", Combination(("a", "x")))


@pytest.mark.usefixtures("dimensions")
class TestMatrix:
    @pytest.mark.parametrize(
        "text, names",
        [
            ("default", ["a-x"]),
            ("all", ["a-x", "a-y", "b-x", "b-y", "c-x", "c-y"]),
            ("loop=b", ["b-x"]),
            ("transport=y,loop=c", ["c-y"]),
            ("loop=*", ["a-x", "b-x", "c-x"]),
        ],
    )
    def test_names(self, text: str, names: list[str]) -> None:
        assert [combination.name for combination in matrix.chosen(text)] == names

    @pytest.mark.parametrize("text", ["loop", "loop=z", "tea=black", ""])
    def test_what_there_is_not(self, text: str) -> None:
        with pytest.raises(ValueError, match="there are"):
            matrix.chosen(text)

    def test_each_value_is_somebodys_neighbour_once(self) -> None:
        assert [combination.name for combination in matrix.neighbours()] == ["a-y", "b-x", "c-x"]

    def test_what_the_server_is_told(self) -> None:
        assert Combination(("b", "y")).arguments == ["--loop", "b"]
        assert Combination(("b", "y")).heat_conf == "[heatperf]\ntransport = y\n"
        assert Combination(("c", "x")).heat_conf == ""


class TestTenth:
    def test_every_group_of_every_variant_has_its_share(self) -> None:
        everything = cases.load()
        strata = Counter((case["variant"], case["group"]) for case in everything)
        kept = Counter((case["variant"], case["group"]) for case in cases.tenth(everything))
        assert set(kept) == set(strata)
        assert all(max(1, count // 10) <= kept[stratum] <= -(-count // 10) for stratum, count in strata.items())

    def test_it_is_the_same_whatever_the_order(self) -> None:
        everything = cases.load()
        ids = [{case["id"] for case in cases.tenth(order)} for order in (everything, everything[::-1])]
        assert ids[0] == ids[1]

    def test_another_group_changes_nothing_for_the_others(self) -> None:
        everything = cases.load()
        more = [*everything, {"id": "new-1", "variant": "base", "group": "new"}]
        assert cases.tenth(more)[:-1] == cases.tenth(everything)


def test_every_case_has_one_answer() -> None:
    identifiers = [case["id"] for case in cases.load()]
    assert sorted(identifiers) == sorted(answer["id"] for answer in cases.load("golden"))
    assert len(identifiers) == len(set(identifiers))


def test_the_plan_names_variants_that_exist() -> None:
    plan = rig.load_floors()
    assert {*plan["full"], *plan["left_out"]} <= set(rig.all_variants())
    assert set(rig.sampled_variants()) | {*plan["full"], *plan["left_out"]} == set(rig.all_variants())
