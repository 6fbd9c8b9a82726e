"""
Databases, which ask more of a file system than others: locks between processes, shared memory in files, fsync, and
files that are written at random and cut.

HRFS_PGBENCH_TRANSACTIONS is the number of transactions of each of pgbench's clients, 60 where it is not set;
HRFS_SQLITE_ROWS that of the rows of each process that writes with SQLite, 150 where it is not set.
"""

import contextlib
import glob
import os
import pwd
import signal
import sqlite3
import subprocess
import sys

import pytest

import harness
from twins import Person, ProgramTwins
from workloads import run


def make_twins(mount, mode, folder, unlike):
    return ProgramTwins(mount(folder=folder, options=mode.options), os.path.join(folder, "native"), unlike)


# ---- SQLite ----

WRITERS = 3
ROWS = int(os.environ.get("HRFS_SQLITE_ROWS", 150))

# Run as a program of its own: a connection must not cross a fork.
WRITER = f"""
import sqlite3, sys
writer = int(sys.argv[1])
database = sqlite3.connect("db", timeout=100, isolation_level=None)
for number in range({ROWS}):
    database.execute("BEGIN IMMEDIATE")
    database.execute("INSERT INTO rows VALUES (?, ?, ?)", (writer, number, str(number) * (number * 7 % 500)))
    database.execute("UPDATE total SET count = count + 1, sum = sum + ?", (number,))
    database.execute("ROLLBACK" if number % 10 == 9 else "COMMIT")
    if number % 50 == 49:
        database.execute("DELETE FROM rows WHERE writer = ? AND number % 5 = 0", (writer,))
database.close()
"""


def start_writer(number):
    return subprocess.Popen([sys.executable, "-c", WRITER, str(number)])


@pytest.mark.limit(120 + ROWS)
@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_sqlite_with_three_writing_processes(mount, far_mode, disk_place, journal):
    """Nobody is told that the database is locked, nothing is lost, and a reader sees whole transactions only."""
    twins = make_twins(mount, far_mode, disk_place, r"^db")

    def work():
        with contextlib.closing(sqlite3.connect("db", timeout=100, isolation_level=None)) as database:
            assert database.execute(f"PRAGMA journal_mode = {journal}").fetchone() == (journal,)
            database.execute("CREATE TABLE rows (writer INTEGER, number INTEGER, text TEXT, PRIMARY KEY (writer, number))")
            database.execute("CREATE TABLE total (count INTEGER, sum INTEGER)")
            database.execute("INSERT INTO total VALUES (0, 0)")
            writers = [start_writer(number) for number in range(WRITERS)]
            while any(writer.poll() is None for writer in writers):
                count, total = database.execute("SELECT count, sum FROM total").fetchone()
                assert 0 <= count <= WRITERS * ROWS and total >= 0
            assert [writer.wait() for writer in writers] == [0] * WRITERS
            check = database.execute("PRAGMA integrity_check").fetchall()
            count, total = database.execute("SELECT count, sum FROM total").fetchone()
            rows = database.execute("SELECT writer, count(*), sum(number), sum(length(text)) FROM rows "
                                    "GROUP BY writer ORDER BY writer").fetchall()
        return [check, count, total, rows, sorted(os.listdir())]

    check, count, _, rows, names = twins.same(work)
    assert check == [["ok"]] and count == WRITERS * (ROWS - ROWS // 10)
    assert len(rows) == WRITERS and names == ["db"]


def test_a_sqlite_writer_that_is_killed_leaves_a_whole_database(mount, far_mode, disk_place):
    """Its locks go with it; who comes next recovers what was committed."""
    mounted = mount(folder=disk_place, options=far_mode.options)

    def row_count(database):
        return database.execute("SELECT count(*) FROM rows").fetchone()[0]

    with contextlib.closing(sqlite3.connect(mounted.path("db"), timeout=100, isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode = wal")
        database.execute("CREATE TABLE rows (number INTEGER PRIMARY KEY)")
        endless = ("import sqlite3\n"
                   "database = sqlite3.connect('db', timeout=100, isolation_level=None)\n"
                   "while True: database.execute('INSERT INTO rows VALUES (NULL)')\n")
        for _ in range(5):
            before = row_count(database)
            writer = subprocess.Popen([sys.executable, "-c", endless], cwd=mounted.point)
            harness.wait_until(lambda: row_count(database) > before + 20, "rows")
            writer.kill()
            assert writer.wait() == -signal.SIGKILL
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert database.execute("SELECT count(*), max(number) FROM rows").fetchone() == (row_count(database),) * 2


# ---- PostgreSQL ----

# Debian keeps them out of PATH, one folder a version; a folder without a server has initdb neither.
PROGRAMS = os.path.dirname(max(glob.glob("/usr/lib/postgresql/*/bin/initdb"), key=lambda path: int(path.split("/")[4]),
                               default=""))

CLIENTS, TRANSACTIONS = 3, int(os.environ.get("HRFS_PGBENCH_TRANSACTIONS", 60))

# What a cluster has of its own: identity, times, random numbers, and what depends on who came first.
UNLIKE = r"^log$|^data/(base|global|pg_wal|pg_xact|pg_stat|pg_logical|pg_multixact|pg_subtrans|postmaster)"

# How many segments of its log are kept ready depends on when it looked.
LEFT_OUT = r"^data/pg_wal/[0-9A-F]{24}$"


def postgres_person():
    account = pwd.getpwnam("postgres")
    return Person("postgres", account.pw_uid, account.pw_gid)


def postgres(program, *arguments):
    """Run one of its programs. Every connection goes through a socket in the cluster's own folder."""
    environment = {**os.environ, "LC_ALL": "C", "PGHOST": os.path.abspath("data"), "PGUSER": "postgres",
                   "PGDATABASE": "postgres", "PGDATA": "data", "PGOPTIONS": ""}
    return run(os.path.join(PROGRAMS, program), *arguments, env=environment)


@contextlib.contextmanager
def running_server(stop="fast"):
    settings = "-k . -c listen_addresses='' -c log_min_messages=error -c autovacuum=off -c max_connections=10"
    postgres("pg_ctl", "start", "-w", "-l", "log", "-o", settings)
    try:
        yield
    finally:
        postgres("pg_ctl", "stop", "-w", "-m", stop)


def query(text):
    return postgres("psql", "-A", "-t", "-X", "-v", "ON_ERROR_STOP=1", "-c", text).strip()


def init_cluster():
    postgres("initdb", "-A", "trust", "-E", "UTF8", "--locale=C", "-k", "--wal-segsize=1")
    return sorted(os.listdir("data"))


def fill_and_ask():
    """With fixed seeds each client does the same transactions each time; sums do not care in which order."""
    with running_server("immediate"):
        postgres("pgbench", "-i", "-q", "-s", "1")
        postgres("pgbench", "-n", "-c", str(CLIENTS), "-j", "2", "-t", str(TRANSACTIONS), "--random-seed=7")
    # The server was killed, as it were: it recovers from its log.
    with running_server():
        seen = [query("SELECT sum(abalance), md5(string_agg(aid || ':' || abalance, ',' ORDER BY aid)) "
                      "FROM pgbench_accounts"),
                query("SELECT sum(tbalance) FROM pgbench_tellers"), query("SELECT sum(bbalance) FROM pgbench_branches"),
                query("SELECT count(*), sum(delta) FROM pgbench_history")]
        query("CREATE INDEX ON pgbench_accounts (abalance)")
        query("VACUUM FULL")
    postgres("pg_checksums", "--check")
    return seen


@pytest.mark.limit(240 + TRANSACTIONS)
def test_postgresql_initdb_and_pgbench(mount, far_mode, disk_place):
    account = postgres_person()
    mounted = mount(start=False, folder=disk_place, options=far_mode.options)
    os.chown(mounted.source, account.uid, account.gid)
    mounted.start()
    twins = ProgramTwins(mounted, os.path.join(disk_place, "native"), UNLIKE, LEFT_OUT)
    os.chown(twins.native, account.uid, account.gid)
    assert "PG_VERSION" in twins.same(init_cluster, account, 0o077)
    sums, tellers, branches, history = twins.same(fill_and_ask, account, 0o077)
    assert history.split("|") == [str(CLIENTS * TRANSACTIONS), tellers]
    assert sums.split("|")[0] == tellers == branches
