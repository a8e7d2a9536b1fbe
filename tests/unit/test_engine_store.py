"""The engine's state folder: what it refuses, and that nothing is half written."""

import sqlite3
import subprocess
import sys

import pytest

from heatperf.engine import records, statefolder
from heatperf.engine.store import Store, StoreUnwritable
from heatperf.errors import ConfigurationError


def template(**content):
    return records.Template(id=None, stack_id="s", template=content, files={}, environment={})


def write(store, step):
    with store.transaction() as session:
        return step(session)


def test_keeps_what_was_stored(tmp_path):
    store = Store(tmp_path / "new" / "folder")
    kept = write(store, lambda session: session.insert(template(a=["ü", None, 1.5])))
    store.close()
    again = Store(tmp_path / "new" / "folder")
    with again.reading() as session:
        assert session.select(records.Template) == [kept]
    again.close()


def test_only_the_owner_may_read_it(tmp_path):
    store = Store(tmp_path / "state")
    write(store, lambda session: session.insert(template()))
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "state").iterdir()}
    assert modes.keys() >= {"engine.sqlite", "engine.sqlite-wal", "lock"}
    assert set(modes.values()) == {0o600}
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    store.close()


def test_a_second_engine_is_refused_by_the_number_of_the_first(tmp_path):
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import pathlib, sys; from heatperf.engine.store import Store;"
            "store = Store(pathlib.Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()",
            str(tmp_path),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(ConfigurationError, match=f"process {holder.pid}"):
            Store(tmp_path)
    finally:
        holder.kill()
        holder.communicate()
    Store(tmp_path).close()


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="cannot keep its state"):
        Store(tmp_path / "file" / "state")


def damage_header(path):
    with path.open("r+b") as file:
        file.write(b"not a database at all")


def damage_page(path):
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (size - 4096))


def cut_off(path):
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def of_another_application(path):
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA application_id = 42")


def of_a_newer_release(path):
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {statefolder.SCHEMA_VERSION + 1}")


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (damage_header, "is damaged: it is no SQLite database"),
        (damage_page, "is damaged"),
        (cut_off, "is damaged"),
        (of_another_application, "belongs to another application"),
        (of_a_newer_release, "was written by a newer release"),
    ],
)
def test_a_database_that_is_not_right_is_refused_and_left_alone(tmp_path, damage, told):
    store = Store(tmp_path)
    for number in range(20):
        write(store, lambda session, number=number: session.insert(template(number=number, text="x" * 3000)))
    store.close()
    path = tmp_path / statefolder.DATABASE
    damage(path)
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match=told) as caught:
        Store(tmp_path)
    assert caught.value.remedy
    assert path.read_bytes() == before
    # and the folder is free again
    statefolder.acquire(tmp_path).close()


def test_a_full_disk_takes_the_whole_step_back(tmp_path):
    store = Store(tmp_path)
    kept = write(store, lambda session: session.insert(template(first=True)))
    # SQLite's own limit gives the same error as a full disk.
    pages = store._writer.execute("PRAGMA page_count").fetchone()[0]
    store._writer.execute(f"PRAGMA max_page_count = {pages + 2}")

    def step(session):
        session.insert(template(second=True))
        session.insert(template(large="x" * 100_000))

    with pytest.raises(StoreUnwritable, match="full"):
        write(store, step)
    with store.reading() as session:
        assert session.select(records.Template) == [kept]
    store._writer.execute("PRAGMA max_page_count = 100000")
    write(store, step)
    with store.reading() as session:
        assert session.count(records.Template) == 3
    store.close()


def test_an_exception_takes_the_whole_step_back(tmp_path):
    store = Store(tmp_path)

    def step(session):
        session.insert(template())
        raise KeyError("anything")

    with pytest.raises(KeyError):
        write(store, step)
    with store.reading() as session:
        assert session.count(records.Template) == 0
    store.close()


def test_readers_see_no_unfinished_step(tmp_path):
    store = Store(tmp_path)
    with store.transaction() as session:
        session.insert(template())
        with store.reading() as reader:
            assert reader.count(records.Template) == 0
    with store.reading() as reader:
        assert reader.count(records.Template) == 1
    store.close()


def test_a_closed_store_takes_nothing_more(tmp_path):
    store = Store(tmp_path)
    store.close()
    with pytest.raises(StoreUnwritable):
        write(store, lambda session: session.insert(template()))
    with pytest.raises(StoreUnwritable), store.reading():
        pass
