"""docs/api-contract.md says what the tests and tables say today."""

import contract
import pytest


def test_the_committed_document_is_current() -> None:
    assert contract.DOCUMENT.read_text() == contract.document(), "run: make contract"


def test_every_difference_has_its_reason_in_it() -> None:
    text = contract.DOCUMENT.read_text()
    rows = [row.strip("|").split(" | ") for row in text.splitlines() if row.startswith("| ")]
    assert all(cell.strip() for row in rows if len(row) == 2 for cell in row)
    for entry in contract.yaml.safe_load(contract.rig.KNOWN.read_text()) or []:
        assert " ".join(entry["reason"].split()).replace("|", "\\|") in text


@pytest.mark.parametrize("test", [word for word in contract.document().split() if word.startswith("tests/")])
def test_the_tests_it_names_exist(test: str) -> None:
    assert (contract.ROOT / test.rstrip(",):;.").rstrip("`")).exists()
