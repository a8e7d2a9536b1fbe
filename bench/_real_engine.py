"""A stock heat-engine whose database holds as many stacks as a large project has.

In: surroundings, how many stacks. Out: a heat.conf for API servers, the path of a stack. StackError where something
does not start or a stack fails. Runs in the harness' main thread.
"""

import json
import subprocess
import time
from pathlib import Path
from urllib.parse import urlsplit

from _cloud import Surroundings
from _load import Answer, Caller, ask
from _rpc_data import STACK_NAME, create_body
from _workloads import Workload
from stack import Cloud, StackError
from stack.api import ApiServer
from stack.paths import HEAT_PEER, peer

#: The quotas are not what is measured.
_OPTIONS = {"DEFAULT": {"max_stacks_per_tenant": "-1"}}
#: Rows like the first one, but for what must differ. Run with Heat's interpreter, which has the database's driver.
_COPY = """
import json, sys
import pymysql

asked = json.load(sys.stdin)
count = asked.pop("count")
connection = pymysql.connect(**asked)
cursor = connection.cursor()
cursor.execute("select column_name from information_schema.columns where table_schema = %s and table_name = 'stack'",
               (asked["database"],))
names = [row[0] for row in cursor.fetchall()]
values = {"id": "uuid()", "name": "concat(name, '-', lpad(seq, 5, '0'))"}
columns = ", ".join(f"`{name}`" for name in names)
chosen = ", ".join(values.get(name, f"`{name}`") for name in names)
cursor.execute(f"insert into stack ({columns}) select {chosen} from stack, seq_1_to_{count}")
connection.commit()
"""


class RealEngine:
    """A context manager.

    :param rows: stacks in the ordinary user's project
    """

    def __init__(self, directory: Path, surroundings: Surroundings, rows: int) -> None:
        self._rows = rows
        self._cloud = Cloud(directory, surroundings.broker, surroundings.keystone, options=_OPTIONS)

    def __enter__(self) -> "RealEngine":
        self._cloud.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._cloud.stop()

    @property
    def config_file(self) -> Path:
        return self._cloud.config_file

    @property
    def pid(self) -> int:
        return self._cloud.engine.pid

    def fill(self, server: ApiServer, caller: Caller) -> str:
        """Make one stack, and copies of its row.

        :returns: path of the one
        """
        where = "/v1/{project}/stacks"
        body = create_body(1_000, STACK_NAME, spread=False)
        kind = (("Content-Type", "application/json"),)
        made = self._ask(server, caller, Workload("fill", "fill", where, 201, "", "POST", body, kind))
        path = f"{where}/{STACK_NAME}/{json.loads(made.body)['stack']['id']}"
        deadline = time.monotonic() + 60
        show = Workload("fill", "fill", path, 200, "")
        while (
            status := json.loads(self._ask(server, caller, show).body)["stack"]["stack_status"]
        ) != "CREATE_COMPLETE":
            if status != "CREATE_IN_PROGRESS" or time.monotonic() > deadline:
                raise StackError(f"a stack to be listed is {status}")
            time.sleep(0.1)
        url = urlsplit(self._cloud.database.url(self._cloud.schema))
        asked = {"host": url.hostname, "port": url.port, "user": url.username, "password": url.password}
        asked |= {"database": self._cloud.schema, "count": self._rows - 1}
        done = subprocess.run(
            [peer(HEAT_PEER, "python"), "-c", _COPY],
            input=json.dumps(asked),
            text=True,
            capture_output=True,
            check=False,
        )
        if done.returncode:
            raise StackError(f"stacks could not be copied: {done.stderr}")
        return path

    @staticmethod
    def _ask(server: ApiServer, caller: Caller, workload: Workload) -> Answer:
        answer = ask(server, workload, caller)
        if answer.status != workload.status:
            raise StackError(f"{workload.method} {workload.path}: {answer}")
        return answer
