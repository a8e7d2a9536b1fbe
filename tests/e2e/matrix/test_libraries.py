"""python-heatclient as a library and openstacksdk: every call that they offer for orchestration."""

from pathlib import Path

import pytest
from client_table import Table
from stack import Cloud, run_script
from stack.api import ApiServer


@pytest.mark.parametrize(
    ("client", "script"), [("python-heatclient", "heatclient_rows.py"), ("openstacksdk", "sdk_rows.py")]
)
def test_every_call_that_the_library_offers(
    api: ApiServer, cloud: Cloud, table: Table, nested: Path, scripts: Path, tmp_path: Path, client: str, script: str
) -> None:
    report = run_script(scripts / script, nested, credentials=cloud.keystone.user, directory=tmp_path)
    table.add_report(client, report)
    assert report.failures == {}
    with table.row(client, "every call that it offers was made"):
        assert report.uncalled == set()
