"""Leases of devices: one holder at a time, for all workstations on one database, freed by themselves when a holder dies.

A lease ends when it is given back, or when its time is over by the database's clock; a thread renews it long before. Taking,
renewing and giving back are one statement each, which the database does whole. Every grant has a greater token: what is
written with an earlier one is refused (`require`; Kleppmann 2016, "How to do distributed locking"). A holder counts its own
time from before each renewal was sent, so it knows that a lease is lost no later than the database does.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from sqlalchemy import ColumnElement, Connection, Double, cast, func, literal_column, select, update
from sqlalchemy.dialects import postgresql, sqlite

from edgeship.errors import DeviceFault, EdgeshipError
from edgeship.history.database import Database
from edgeship.history.figures import Holding
from edgeship.history.schema import leases

SECONDS = 60.0
_RENEWALS = 4  # in the time of one lease: three may fail before it is lost
_POLL_S = 0.5


class Lease:
    """A device that is ours until the with-block ends, or until it is lost."""

    def __init__(self, device_key: str, holder: str, token: int, until: float) -> None:
        self.device_key = device_key
        self.holder = holder
        self.token = token
        self._until = until  # by this machine's steady clock
        self._lost = threading.Event()

    @property
    def held(self) -> bool:
        """Say whether it is still ours, without asking the database."""
        return not self._lost.is_set() and _steady_s() < self._until

    def check(self) -> None:
        """Refuse to go on without the device: call it before each step that others must not disturb.

        Raises:
            DeviceFault: `lost`; it may be another's by now.
        """
        if not self.held:
            raise DeviceFault(
                f"{self.device_key}: the lease was lost: the database could not be reached in time to renew it, or this "
                "process stood still",
                fault="lost",
                hint="run it again; what was kept before is whole",
            )

    def _renewed(self, until: float) -> None:
        self._until = until

    def _lose(self) -> None:
        self._lost.set()


@contextmanager
def hold(
    database: Database, device_key: str, *, holder: str, seconds: float = SECONDS, wait_s: float = 0.0,
    on_lost: Callable[[], None] | None = None,
) -> Iterator[Lease]:  # fmt: skip
    """Give a device to one holder; it is free again when the block ends, or `seconds` after its process ended.

    Args:
        holder: who holds it, in words for those who wait.
        seconds: how long after its last renewal a lease stands.
        wait_s: how long to wait for one that somebody holds.
        on_lost: called once, from another thread, when the lease was lost in the block.

    Raises:
        DeviceFault: `busy`; it names the holder and since when.
    """
    lease = _taken(database, device_key, holder, seconds, wait_s)
    stop = threading.Event()
    renewing = threading.Thread(target=_renew, args=(database, lease, seconds, stop, on_lost), daemon=True)
    renewing.start()
    try:
        yield lease
    finally:
        stop.set()
        renewing.join()
        _give_back(database, lease)


def holding(connection: Connection, device_key: str) -> Holding | None:
    """Return who holds a device now, or None."""
    now = _now(connection)
    asked = select(leases, (leases.c.expires_s - now).label("left_s"))
    row = connection.execute(asked.where(leases.c.device_key == device_key, leases.c.expires_s > now)).first()
    return None if row is None else Holding(row.device_key, row.holder or "", row.token, row.since_s, row.left_s)


def require(connection: Connection, lease: Lease) -> None:
    """Refuse to write for a holder whose lease is over; until the transaction ends nobody else can take the device.

    Raises:
        DeviceFault: `lost`.
    """
    mine = select(leases.c.token).where(*_mine(connection, lease)).with_for_update()
    if connection.execute(mine).first() is None:
        lease._lose()
        lease.check()


def _taken(database: Database, device_key: str, holder: str, seconds: float, wait_s: float) -> Lease:
    until = _steady_s() + wait_s
    while True:
        asked = _steady_s()
        with database.writing() as connection:
            token = _take(connection, device_key, holder, seconds)
            other = holding(connection, device_key) if token is None else None
        if token is not None:
            return Lease(device_key, holder, token, asked + seconds)
        if other is not None and _steady_s() >= until:
            raise _busy(other)
        time.sleep(min(_POLL_S, max(0.0, until - _steady_s())))


def _busy(other: Holding) -> DeviceFault:
    since = datetime.fromtimestamp(other.since_s, UTC).isoformat(timespec="seconds")
    return DeviceFault(
        f"{other.device_key}: busy: held by {other.holder} since {since}",
        fault="busy",
        hint=f"wait for it; had its holder died, it would be free in {max(other.left_s, 0.0):.0f} s",
    )


def _take(connection: Connection, device_key: str, holder: str, seconds: float) -> int | None:
    """Take a device that is free, in one statement; return the token, or None where another holds it."""
    now = _now(connection)
    row = {"device_key": device_key, "token": 1, "holder": holder, "since_s": now, "expires_s": now + seconds}
    of = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    statement = of(leases).values(row)
    again = {"token": leases.c.token + 1, "holder": holder, "since_s": now, "expires_s": now + seconds}
    taken = statement.on_conflict_do_update(
        index_elements=[leases.c.device_key], set_=again, where=leases.c.expires_s <= now
    )
    found = connection.execute(taken.returning(leases.c.token)).scalar()
    return None if found is None else int(found)


def _renew(
    database: Database, lease: Lease, seconds: float, stop: threading.Event, on_lost: Callable[[], None] | None
) -> None:
    """Renew until told to stop; a lease that could not be renewed in time is never renewed again."""
    while not stop.wait(seconds / _RENEWALS):
        asked = _steady_s()
        if not lease.held:
            break
        try:
            with database.writing() as connection:
                now = _now(connection)
                renewal = update(leases).where(*_mine(connection, lease)).values(expires_s=now + seconds)
                if connection.execute(renewal.returning(leases.c.token)).first() is None:
                    break
        except EdgeshipError:
            continue  # the database may come back before the lease is over
        lease._renewed(asked + seconds)
    if not stop.is_set():
        lease._lose()
        if on_lost is not None:
            on_lost()


def _give_back(database: Database, lease: Lease) -> None:
    try:
        with database.writing() as connection:
            connection.execute(update(leases).where(*_mine(connection, lease)).values(expires_s=0.0, holder=None))
    except EdgeshipError:
        pass  # it frees itself


def _steady_s() -> float:
    """Return seconds of a clock that never jumps and, where there is one, also counts while the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def _mine(connection: Connection, lease: Lease) -> tuple[ColumnElement[bool], ...]:
    return (
        leases.c.device_key == lease.device_key,
        leases.c.token == lease.token,
        leases.c.expires_s > _now(connection),
    )


def _now(connection: Connection) -> ColumnElement[float]:
    """Return the database's own clock at the moment of use, seconds since 1970."""
    if connection.dialect.name == "sqlite":
        return literal_column("(julianday('now') - 2440587.5) * 86400.0", Double)
    return cast(func.extract("epoch", func.clock_timestamp()), Double)
