"""Files that clients have uploaded: a table in SQLite, and their bytes by digest beside it.

One folder, which several processes may share, and which outlives them::

    files.sqlite     a row a file: whose, what, until when
    bytes/DIGEST     what it holds; several files may hold the same
    partial/         uploads under way; what a killed process leaves there is swept up later

A file is there once its row is. Its row comes after its bytes and goes before them: whatever kills
a process between leaves bytes without a row, which the next `sweep` deletes. Every change of either
is made in a transaction that excludes all others. The standard library's sqlite3 is all that a few
statements need.
"""

import contextlib
import errno
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

from blake3 import blake3

from saccade.media.decode.formats import medium_kind
from saccade.media.errors import UploadError
from saccade.media.fetch.uploaded import UploadedFile
from saccade.server.core.errors import ApiError, InvalidRequest, RequestTooLarge

PURPOSES = ("user_data", "vision", "batch")
MOST_LISTED = 10_000  # files of one answer
_HEAD_BYTES = 1024  # of which the kind is told
_WAIT_SECONDS = 30.0  # for other processes' transactions
_FORGOTTEN_SECONDS = 3600.0  # after which nobody writes to a partial upload any more
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_SCHEMA = """
CREATE TABLE IF NOT EXISTS files (
    id TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    digest TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    filename TEXT NOT NULL,
    purpose TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER
);
CREATE INDEX IF NOT EXISTS files_by_owner ON files (owner, created_at);
CREATE INDEX IF NOT EXISTS files_by_digest ON files (digest);
"""


class UnknownFile(ApiError):
    """There is none, or it has expired, or it is somebody else's: nobody is told which."""

    status = 404
    code = "file_not_found"

    def __init__(self, file_id: str, param: str | None = None) -> None:
        super().__init__(f"there is no file {file_id[:64]!r}", param)


class StorageFull(ApiError):
    """The disk is; what was sent is not kept, and everything else goes on."""

    status = 507
    code = "insufficient_storage"


@dataclass(frozen=True)
class StoredFile:
    """One file. Times are Unix seconds; ``expires_at`` None: never."""

    id: str
    owner: str
    digest: str
    bytes: int
    filename: str
    purpose: str
    created_at: int
    expires_at: int | None


class FileStore:
    """The files below a folder. Its methods block, on the disk and on other processes.

    Args:
        folder: made if it is not there.
        most_bytes: of all files of one owner.
        most_file_bytes: of one file.
    """

    def __init__(self, folder: Path, most_bytes: int, most_file_bytes: int) -> None:
        self.most_file_bytes = most_file_bytes
        self._most_bytes = most_bytes
        self._table = folder / "files.sqlite"
        self._bytes, self._partial = folder / "bytes", folder / "partial"
        for made in (folder, self._bytes, self._partial):
            made.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.closing(self._connect()) as table:
            table.execute("PRAGMA journal_mode=WAL")  # readers do not wait for a writer
            table.executescript(_SCHEMA)
        self.sweep()

    def begin(self) -> "Upload":
        """An upload, to be written to and then added or discarded."""
        return Upload(self._partial / token_hex(16), self.most_file_bytes)

    def add(
        self, upload: "Upload", owner: str, filename: str, purpose: str, seconds: int | None
    ) -> StoredFile:
        """Keeps what was uploaded.

        Args:
            seconds: after which it expires; None: never.

        Raises:
            InvalidRequest: neither an image nor a video.
            RequestTooLarge: with it the owner would have more than ``most_bytes``.
            StorageFull: the disk is.
        """
        kind = purpose if purpose == "batch" else medium_kind(upload.head)
        if kind is None:
            raise InvalidRequest("the file is neither an image nor a video", "file")
        now = int(time.time())
        expires = None if seconds is None else now + seconds
        # Its kind is in the id, so that a request need not be looked up to be understood.
        made = StoredFile(
            f"file-{kind}-{token_hex(16)}",
            *(owner, upload.digest, upload.size, filename, purpose, now, expires),
        )
        self._expire()
        try:
            self._insert(upload, made)
        except BaseException:
            self._drop_unheld([made.digest])
            raise
        return made

    def _insert(self, upload: "Upload", made: StoredFile) -> None:
        with _disk(), self._changing() as table:
            (held,) = table.execute(
                "SELECT coalesce(sum(bytes), 0) FROM files WHERE owner = ?", (made.owner,)
            ).fetchone()
            if held + made.bytes > self._most_bytes:
                raise RequestTooLarge(
                    f"with it your files would be larger than the limit of {self._most_bytes} "
                    "bytes: delete some",
                    "file",
                )
            upload.move(self._bytes / made.digest)
            fields = tuple(vars(made).values())
            table.execute("INSERT INTO files VALUES (?, ?, ?, ?, ?, ?, ?, ?)", fields)

    def get(self, file_id: str, owner: str) -> StoredFile:
        """One file.

        Raises:
            UnknownFile: there is none of this owner's.
        """
        with contextlib.closing(self._connect()) as table:
            row = table.execute(
                "SELECT * FROM files WHERE id = ? AND owner = ?", (file_id, owner)
            ).fetchone()
        file = None if row is None else StoredFile(*row)
        if file is None or (file.expires_at is not None and file.expires_at <= time.time()):
            raise UnknownFile(file_id)
        return file

    def path(self, file: StoredFile) -> Path:
        """Where its bytes are; they may be deleted at any time."""
        return self._bytes / file.digest

    def open(self, file_id: str, owner: str) -> UploadedFile:
        """A file, to be read.

        Raises:
            UploadError: there is none of this owner's.
        """
        try:
            file = self.get(file_id, owner)
            return UploadedFile(self.path(file), bytes.fromhex(file.digest))
        except (UnknownFile, FileNotFoundError):  # which is deleted in between
            raise UploadError(str(UnknownFile(file_id))) from None

    def list(
        self, owner: str, purpose: str | None, after: str | None, limit: int, newest_first: bool
    ) -> tuple[list[StoredFile], bool]:
        """An owner's files, by age, and whether there are more.

        Raises:
            UnknownFile: ``after`` is none of them.
        """
        order, beyond = ("DESC", "<") if newest_first else ("ASC", ">")
        where, values = (
            ["owner = ?", "(expires_at IS NULL OR expires_at > ?)"],
            [owner, time.time()],
        )
        if purpose is not None:
            where.append("purpose = ?")
            values.append(purpose)
        if after is not None:
            last = self.get(after, owner)
            where.append(f"(created_at, id) {beyond} (?, ?)")
            values += [last.created_at, last.id]
        # Our own words, and values as parameters.
        query = (
            f"SELECT * FROM files WHERE {' AND '.join(where)} "  # noqa: S608
            f"ORDER BY created_at {order}, id {order} LIMIT ?"
        )
        with contextlib.closing(self._connect()) as table:
            rows = table.execute(query, (*values, limit + 1)).fetchall()
        return [StoredFile(*row) for row in rows[:limit]], len(rows) > limit

    def delete(self, file_id: str, owner: str) -> None:
        """Deletes a file, and its bytes where no other file holds the same.

        Raises:
            UnknownFile: as `get`.
        """
        file = self.get(file_id, owner)
        with _disk(), self._changing() as table:
            table.execute("DELETE FROM files WHERE id = ?", (file.id,))
        self._drop_unheld([file.digest])

    def sweep(self) -> None:
        """Deletes what has expired, and what killed processes have left."""
        self._expire()
        self._drop_unheld(os.listdir(self._bytes))
        now = time.time()
        for left in self._partial.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if left.stat().st_mtime < now - _FORGOTTEN_SECONDS:
                    left.unlink()

    def _expire(self) -> None:
        with _disk(), self._changing() as table:
            gone = table.execute(
                "DELETE FROM files WHERE expires_at <= ? RETURNING digest", (time.time(),)
            ).fetchall()
        self._drop_unheld([digest for (digest,) in gone])

    def _drop_unheld(self, digests: Sequence[str]) -> None:
        """Deletes bytes that no file holds; none begins to meanwhile."""
        with self._changing() as table:
            for digest in digests:
                held = table.execute("SELECT 1 FROM files WHERE digest = ? LIMIT 1", (digest,))
                if held.fetchone() is None:
                    (self._bytes / digest).unlink(missing_ok=True)

    def _connect(self) -> sqlite3.Connection:
        # Transactions are begun by hand; on another thread every time.
        return sqlite3.connect(self._table, timeout=_WAIT_SECONDS, isolation_level=None)

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that no other process's overlaps; what raises undoes it."""
        with contextlib.closing(self._connect()) as table:
            table.execute("PRAGMA synchronous=FULL")  # what was answered survives the machine's end
            table.execute("BEGIN IMMEDIATE")
            try:
                yield table
                table.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    table.execute("ROLLBACK")
                raise


class Upload:
    """Bytes on their way into the store. Its methods block on the disk."""

    def __init__(self, path: Path, most_bytes: int) -> None:
        self._path = path
        self._most_bytes = most_bytes
        self._hash = blake3()
        self.head = b""
        self.size = 0
        with _disk():
            self._file = path.open("xb", buffering=0)

    def write(self, data: bytes) -> None:
        """Takes more of it.

        Raises:
            RequestTooLarge: it is larger than a file may be.
            StorageFull: the disk is.
        """
        self.size += len(data)
        if self.size > self._most_bytes:
            limit = f"the file is larger than the limit of {self._most_bytes} bytes"
            raise RequestTooLarge(limit, "file")
        if len(self.head) < _HEAD_BYTES:
            self.head += data[: _HEAD_BYTES - len(self.head)]
        self._hash.update(data)
        left = memoryview(data)
        with _disk():
            while left:  # a disk that fills up takes some of it
                left = left[self._file.write(left) :]

    @property
    def digest(self) -> str:
        """Of what it holds."""
        return self._hash.hexdigest()

    def move(self, to: Path) -> None:
        """Puts it in its place, once it is on the disk whole."""
        os.fsync(self._file.fileno())
        self._path.rename(to)
        folder = os.open(to.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def close(self) -> None:
        """Ends it; what was not moved is gone."""
        self._file.close()
        self._path.unlink(missing_ok=True)


@contextmanager
def _disk() -> Iterator[None]:
    """Tells a full disk from everything else that goes wrong."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
    except sqlite3.OperationalError as error:
        if "full" not in str(error):
            raise
    else:
        return
    raise StorageFull("the server has no room for files")
