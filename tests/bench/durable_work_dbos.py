"""DBOS Transact's side of ``bench_durable_work.py``; runs where ``dbos`` 3.4 is installed.

``python durable_work_dbos.py URL PICTURES started|queued WORKERS``: a workflow a picture with two
steps, as its documentation asks: the first returns the result, the second writes it into the
application's own table, which a worklist would read, in one transaction with its checkpoint. The
result's document comes on standard input; pictures a second go out.
"""

import sqlite3
import sys
import threading
import time

from dbos import DBOS, SQLAlchemyDatasource
from sqlalchemy import create_engine, event, text

URL, COUNT, WAY, WORKERS = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
DOCUMENT = sys.stdin.read()

system_url = URL.replace("vigil.sqlite3", "dbos.sqlite3")
engine = create_engine(URL.replace("postgresql://", "postgresql+psycopg://"))
turn = threading.Lock()  # SQLite lets one write at a time; waiting here is cheaper than polling
if engine.dialect.name == "sqlite":
    # The journal that costs the fewest fsyncs, for DBOS's own file too; the mode stays in the file.
    with sqlite3.connect(system_url.removeprefix("sqlite:///")) as file:
        file.execute("PRAGMA journal_mode=WAL")

    @event.listens_for(engine, "connect")
    def _prepare(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")


with engine.begin() as connection:
    connection.execute(text("CREATE TABLE pictures (id INTEGER PRIMARY KEY, result TEXT)"))
    for number in range(COUNT):
        connection.execute(text("INSERT INTO pictures (id) VALUES (:id)"), {"id": number})

DBOS(
    config={
        "name": "bench",
        "system_database_url": system_url,
        "run_admin_server": False,
        "log_level": "ERROR",
    }
)
own = SQLAlchemyDatasource.create(str(engine.url), engine=engine)


@DBOS.step()
def analyse(_number: int) -> str:
    """Return the result."""
    return DOCUMENT


@own.transaction
def write(number: int, document: str) -> None:
    """Write it into the application's table."""
    own.sql_session().execute(
        text("UPDATE pictures SET result = :result WHERE id = :id AND result IS NULL"),
        {"id": number, "result": document},
    )


@DBOS.workflow()
def answer(number: int) -> None:
    """Answer one picture."""
    document = analyse(number)
    if engine.dialect.name == "sqlite":
        with turn:
            write(number, document)
    else:
        write(number, document)


def run_started() -> None:
    """Let as many threads as there are workers call the workflow, one picture after the other."""
    numbers = iter(range(COUNT))
    lock = threading.Lock()

    def work() -> None:
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            answer(number)

    threads = [threading.Thread(target=work) for _ in range(WORKERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def run_queued() -> None:
    """Let DBOS's own queue hand the pictures out."""
    for handle in [DBOS.enqueue_workflow("pictures", answer, number) for number in range(COUNT)]:
        handle.get_result()


DBOS.launch()
DBOS.register_queue("pictures", worker_concurrency=WORKERS, polling_interval_sec=0.02)
began = time.perf_counter()
run_started() if WAY == "started" else run_queued()
ended = time.perf_counter()
with engine.connect() as connection:
    done = connection.execute(text("SELECT count(*) FROM pictures WHERE result IS NOT NULL"))
    assert done.scalar_one() == COUNT
DBOS.destroy()
print(COUNT / (ended - began))
