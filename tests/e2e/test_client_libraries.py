"""A slice of the client matrix for every run: both client libraries, a nested stack from its creation to its end.

The whole is in tests/e2e/matrix, which ``make e2e`` runs.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from stack import Cloud, run_script
from stack.api import ApiServer


def test_both_libraries_manage_a_nested_stack(
    api: ApiServer, cloud: Cloud, nested: Path, scripts: Path, tmp_path: Path
) -> None:
    def rows(script: str) -> dict[str, str]:
        report = run_script(
            scripts / script, nested, "core", credentials=cloud.keystone.user, directory=tmp_path, timeout=120
        )
        assert report.rows
        return report.failures

    with ThreadPoolExecutor() as both:
        assert list(both.map(rows, ["heatclient_rows.py", "sdk_rows.py"])) == [{}, {}]
