"""The store of uploaded files: real folders, real processes, killed."""

import os
import random
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from blake3 import blake3

from saccade.media.errors import UploadError
from saccade.server.core.errors import InvalidRequest, RequestTooLarge
from saccade.server.files import store as module
from saccade.server.files.store import FileStore, StorageFull, UnknownFile

MEDIA = Path(__file__).parents[3] / "demo" / "media"
SHAPES = (MEDIA / "shapes.jpg").read_bytes()
EVENTS = (MEDIA / "events.mp4").read_bytes()
# Adds and deletes files until it is killed; prints what was kept, and what it is about to delete.
CHURN = """
import sys
from pathlib import Path
from saccade.server.files.store import FileStore
store = FileStore(Path(sys.argv[1]), 10**9, 10**9)
number = int(sys.argv[2])
while True:
    number += 1
    upload = store.begin()
    upload.write(b"\\xff\\xd8" + b"%d" % (number // 3) * 50_000)
    kept = store.add(upload, "somebody", "a.jpg", "user_data", None)
    print("+", kept.id, flush=True)
    upload.close()
    if number % 2:
        print("-", kept.id, flush=True)
        store.delete(kept.id, "somebody")
"""


@pytest.fixture
def store(tmp_path):
    return FileStore(tmp_path / "files", 10**6, 10**5)


def add(store, data=SHAPES, owner="me", purpose="user_data", seconds=None, name="a"):
    upload = store.begin()
    try:
        for start in range(0, len(data), 1000):
            upload.write(data[start : start + 1000])
        return store.add(upload, owner, name, purpose, seconds)
    finally:
        upload.close()


def held(store):
    """(bytes by name, names of partial uploads)."""
    return sorted(os.listdir(store._bytes)), os.listdir(store._partial)


def test_a_file_is_there_until_it_is_deleted(store):
    kept = add(store, name="shapes.jpg")
    assert store.get(kept.id, "me") == kept
    assert (kept.bytes, kept.filename, kept.purpose) == (len(SHAPES), "shapes.jpg", "user_data")
    assert store.open(kept.id, "me").read() == SHAPES
    assert held(store) == ([blake3(SHAPES).hexdigest()], [])
    store.delete(kept.id, "me")
    with pytest.raises(UnknownFile, match=kept.id):
        store.get(kept.id, "me")
    with pytest.raises(UploadError, match=kept.id):
        store.open(kept.id, "me")
    assert held(store) == ([], [])


def test_the_kind_is_told_by_the_bytes(store):
    assert add(store, SHAPES, name="a.mp4").id.startswith("file-image-")
    assert add(store, EVENTS, purpose="vision").id.startswith("file-video-")
    assert add(store, b"{}", purpose="batch").id.startswith("file-batch-")
    for nothing in (b"", b"some text", b"%PDF-1.7"):
        with pytest.raises(InvalidRequest) as refused:
            add(store, nothing, name="a.jpg")
        assert refused.value.param == "file"
    assert len(held(store)[0]) == 3


def test_nobody_sees_what_is_anothers(store):
    mine, other = add(store), add(store, owner="other")
    for method in (store.get, store.delete):
        with pytest.raises(UnknownFile, match=mine.id):
            method(mine.id, "other")
    assert store.list("other", None, None, 9, True) == ([other], False)
    with pytest.raises(UnknownFile):
        store.list("other", None, mine.id, 9, True)
    store.delete(other.id, "other")
    assert store.open(mine.id, "me").read() == SHAPES  # the bytes were of both


def test_pages(store, monkeypatch):
    now = time.time()
    made = []
    for number in range(7):
        monkeypatch.setattr(time, "time", lambda number=number: now + number // 2)
        made.append(add(store, purpose="vision" if number % 2 else "user_data"))
    made.sort(key=lambda file: (file.created_at, file.id))
    for newest_first, whole in ((True, made[::-1]), (False, made)):
        found, after, more = [], None, True
        while more:
            page, more = store.list("me", None, after, 3, newest_first)
            found += page
            after = page[-1].id
        assert found == whole
    seen, _ = store.list("me", "vision", None, 9, False)
    assert [file.purpose for file in seen] == ["vision"] * 3


def test_it_expires(store, monkeypatch):
    kept, short = add(store, EVENTS), add(store, seconds=60)
    assert short.expires_at == short.created_at + 60
    later = time.time() + 61
    monkeypatch.setattr(time, "time", lambda: later)
    with pytest.raises(UnknownFile):
        store.get(short.id, "me")
    assert store.list("me", None, None, 9, True)[0] == [kept]
    store.sweep()
    assert held(store)[0] == [kept.digest]


def test_more_than_the_quota_is_not_kept(tmp_path):
    store = FileStore(tmp_path, 2 * len(SHAPES), 10**6)
    files = [add(store), add(store)]
    with pytest.raises(RequestTooLarge) as refused:
        add(store)
    assert refused.value.param == "file"
    add(store, owner="other")
    store.delete(files[0].id, "me")
    add(store)
    with pytest.raises(RequestTooLarge):
        add(FileStore(tmp_path, 10**6, len(SHAPES) - 1))
    assert held(store) == ([blake3(SHAPES).hexdigest()], [])


def test_what_has_expired_makes_room(tmp_path, monkeypatch):
    store = FileStore(tmp_path, max(len(SHAPES), len(EVENTS)), 10**6)
    add(store, seconds=60)
    with pytest.raises(RequestTooLarge):
        add(store, EVENTS)
    later = time.time() + 61
    monkeypatch.setattr(time, "time", lambda: later)
    kept = add(store, EVENTS)
    assert held(store)[0] == [kept.digest]


def test_what_cannot_be_written_down_is_not_kept(store, monkeypatch):
    """The table refuses a second file of one id."""
    monkeypatch.setattr(module, "token_hex", lambda _: "0")
    kept = add(store)
    other = SHAPES + b"more"
    with pytest.raises(sqlite3.IntegrityError):
        add(store, other)
    assert held(store) == ([kept.digest], [])
    assert store.open(kept.id, "me").read() == SHAPES


def test_what_is_not_added_is_gone(store):
    upload = store.begin()
    upload.write(SHAPES)
    upload.close()
    assert held(store) == ([], [])


def test_a_full_disk_is_told_and_nothing_is_kept(store):
    """A limit on the size of files stands for it."""
    kept = add(store)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(SHAPES) // 2, limits[1]))
    try:
        with pytest.raises(StorageFull):
            add(store, SHAPES + b"more")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert held(store) == ([kept.digest], [])
    assert store.open(kept.id, "me").read() == SHAPES


def test_processes_that_are_killed_lose_and_halve_nothing(tmp_path):
    """Two at a time share a folder; both are killed, five times."""
    kept, deleted = set(), set()
    chance = random.Random(1)
    for turn in range(5):
        started = [
            subprocess.Popen(
                [sys.executable, "-c", CHURN, str(tmp_path), str(1000 * turn)],
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(2)
        ]
        lines = [process.stdout.readline() for process in started]  # they are at work
        time.sleep(chance.uniform(0.05, 0.4))
        for process in started:
            process.kill()
        for process in started:
            lines += process.communicate()[0].splitlines()
        for sign, file_id in map(str.split, lines):
            (kept if sign == "+" else deleted).add(file_id)
    store = FileStore(tmp_path, 10**9, 10**9)
    files, more = store.list("somebody", None, None, 10_000, True)
    assert not more
    there = {file.id for file in files}
    assert kept - deleted <= there  # all that was told
    # And of each process at most one that was not told yet, and one that was not deleted yet.
    assert len(there - kept) <= 10
    assert len(there & deleted) <= 10
    for file in files:
        data = store.open(file.id, "somebody").read()
        assert (len(data), blake3(data).hexdigest()) == (file.bytes, file.digest)
    assert set(held(store)[0]) == {file.digest for file in files}


def test_partial_uploads_are_swept_up_once_nobody_writes_to_them(store, tmp_path):
    under_way = store.begin()
    left = store._partial / "left"
    left.touch()
    long_ago = time.time() - 2 * module._FORGOTTEN_SECONDS
    os.utime(left, (long_ago, long_ago))
    again = FileStore(tmp_path / "files", 10**6, 10**6)
    assert not left.exists()
    under_way.write(SHAPES)
    assert again.get(store.add(under_way, "me", "a", "vision", None).id, "me")
    under_way.close()
