"""Downloads from a server on this machine, and the ways in which they fail."""

import random
import sys

import pytest

from skcausalmeta.datasets import _resume
from skcausalmeta.datasets._download import download, fetch_files

BODY = random.Random(0).randbytes(100_000)
HOW = {"download_if_missing": True, "n_retries": 0, "delay": 0.0, "instead": "set.npz"}


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("algorithm", ["sha256", "md5"])
def test_a_file_arrives_whole_once(tmp_path, server, algorithm):
    remote = server.remote("set.zip", BODY, algorithm)
    home = tmp_path / "new" / "folder"
    for _ in range(2):
        (path,) = fetch_files([remote], home, **HOW)
        assert path.read_bytes() == BODY
    assert server.asked == [("set.zip", None)]
    assert names_in(home) == ["set.zip"]


def test_a_moved_file_is_followed(tmp_path, server):
    remote = server.remote("set.zip", BODY)
    server.moved.add("set.zip")
    assert download(remote, tmp_path).read_bytes() == BODY
    assert [name for name, _ in server.asked] == ["set.zip", "elsewhere/set.zip"]


def test_a_corrupt_file_leaves_nothing_and_is_not_asked_for_again(tmp_path, server):
    remote = server.remote("set.zip", BODY)
    server.files["set.zip"] = BODY[:-1] + b"?"
    message = r"set\.zip could not be downloaded: SHA256 hash .* does not match.*hand"
    with pytest.raises(OSError, match=message):
        download(remote, tmp_path, n_retries=3, delay=0)
    assert names_in(tmp_path) == []
    assert len(server.asked) == 1


def test_a_transfer_that_breaks_off_is_continued(tmp_path, server):
    remote = server.remote("set.zip", BODY)
    server.faults = [("cut", 30_000), ("cut", 20_000)]
    assert download(remote, tmp_path, delay=0).read_bytes() == BODY
    assert [part for _, part in server.asked] == [None, "bytes=30000-", "bytes=50000-"]
    assert names_in(tmp_path) == ["set.zip"]


def test_a_later_call_continues_what_is_there(tmp_path, server):
    remote = server.remote("set.zip", BODY)
    server.faults = [("cut", 30_000)]
    with pytest.raises(OSError, match=r"IncompleteRead.*30000 bytes read.*by hand"):
        download(remote, tmp_path, n_retries=0)
    assert names_in(tmp_path) == ["set.zip.part"]
    assert download(remote, tmp_path, n_retries=0).read_bytes() == BODY
    assert server.asked[-1] == ("set.zip", "bytes=30000-")


def test_an_interruption_by_the_user_is_continued_too(tmp_path, server, monkeypatch):
    remote = server.remote("set.zip", BODY)
    replace = _resume.os.replace
    monkeypatch.setattr(_resume.os, "replace", lambda *paths: raise_interrupt())
    with pytest.raises(KeyboardInterrupt):
        download(remote, tmp_path)
    assert names_in(tmp_path) == ["set.zip.part"]
    monkeypatch.setattr(_resume.os, "replace", replace)
    # All bytes are there, so the server has nothing to add.
    assert download(remote, tmp_path).read_bytes() == BODY
    assert server.asked[-1] == ("set.zip", f"bytes={len(BODY)}-")


def raise_interrupt():
    raise KeyboardInterrupt


def test_a_server_that_sends_no_parts_sends_all_again(tmp_path, server):
    remote = server.remote("set.zip", BODY)
    server.ranges = False
    server.faults = [("cut", 30_000)]
    assert download(remote, tmp_path, n_retries=1, delay=0).read_bytes() == BODY
    assert len(server.asked) == 2


def test_a_part_of_another_file_is_thrown_away(tmp_path, server):
    remote = server.remote("set.zip", BODY)
    (tmp_path / "set.zip.part").write_bytes(b"?" * 500)
    assert download(remote, tmp_path, n_retries=1, delay=0).read_bytes() == BODY
    assert [part for _, part in server.asked] == ["bytes=500-", None]


def test_a_part_that_is_too_long_is_thrown_away(tmp_path, server):
    remote = server.remote("set.zip", BODY)
    (tmp_path / "set.zip.part").write_bytes(BODY + b"more")
    assert download(remote, tmp_path, n_retries=1, delay=0).read_bytes() == BODY
    assert [part for _, part in server.asked] == [f"bytes={len(BODY) + 4}-", None]


def test_an_answer_of_another_part_is_refused(tmp_path, server, monkeypatch):
    remote = server.remote("set.zip", BODY)
    (tmp_path / "set.zip.part").write_bytes(BODY[:500])
    monkeypatch.setattr(_resume, "_extent", lambda answer: (700, len(BODY)))
    with pytest.raises(OSError, match="another part than asked for"):
        download(remote, tmp_path, n_retries=0)
    assert names_in(tmp_path) == []


def test_a_missing_file_is_asked_for_once(tmp_path, server):
    remote = server.remote("set.zip")
    message = "404 Client Error: Not Found for url: .*Try again later, or put http.* as"
    with pytest.raises(OSError, match=message):
        download(remote, tmp_path, n_retries=3, delay=0)
    assert len(server.asked) == 1
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("status", [503, 429])
def test_a_busy_server_is_asked_again(tmp_path, server, status):
    remote = server.remote("set.zip", BODY)
    server.faults = [status, status]
    assert download(remote, tmp_path, n_retries=2, delay=0).read_bytes() == BODY
    server.faults = [status] * 3
    (tmp_path / "set.zip").unlink()
    with pytest.raises(OSError, match=f"{status} .* Error"):
        download(remote, tmp_path, n_retries=2, delay=0)


def test_no_server_at_all(tmp_path, server):
    remote = server.remote("set.zip", BODY)._replace(url="http://127.0.0.1:9/set.zip")
    with pytest.raises(OSError, match=r"could not be downloaded: .*refused"):
        download(remote, tmp_path, n_retries=0)


def test_a_folder_that_cannot_be_made(tmp_path, server):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"could not be downloaded: .*(exists|directory)"):
        download(server.remote("set.zip", BODY), tmp_path / "file")


def test_a_part_that_cannot_be_written(tmp_path, server):
    (tmp_path / "set.zip.part").mkdir()
    with pytest.raises(OSError, match=r"could not be downloaded: .*directory"):
        download(server.remote("set.zip", BODY), tmp_path)


def test_nothing_is_downloaded_without_leave(tmp_path, server):
    remote = server.remote("set.zip", BODY)
    message = r"Cannot find set\.npz or set\.zip in .* Use download_if_missing=True,"
    with pytest.raises(FileNotFoundError, match=message):
        fetch_files([remote], tmp_path, **{**HOW, "download_if_missing": False})
    assert server.asked == []


def test_without_pooch_the_remedy_is_named(tmp_path, server, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(ImportError, match=r"pip install pooch.*\[data\].*by hand"):
        download(server.remote("set.zip", BODY), tmp_path)
    assert server.asked == []
