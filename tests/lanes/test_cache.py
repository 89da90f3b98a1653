"""The on-disk store of compiled kernels."""

import concurrent.futures
import multiprocessing
import os

import pytest

from gpusim.lanes import cache

KEY = "0123abcd"


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("GPUSIM_CACHE", str(tmp_path / "cache"))
    cache._warn.cache_clear()
    return tmp_path / "cache" / "lanes"


def test_returns_what_was_stored(store):
    assert cache.get(KEY) is None
    cache.put(KEY, b"code\0more")
    assert cache.get(KEY) == b"code\0more"
    cache.put(KEY, b"")
    assert cache.get(KEY) == b""


def test_others_can_neither_read_nor_write(store):
    cache.put(KEY, b"code")
    assert store.stat().st_mode & 0o777 == 0o700
    assert (store / KEY).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "damage",
    [
        lambda entry: entry[:-1],
        lambda entry: entry[:20],
        lambda entry: b"",
        lambda entry: entry + b"\0",
        lambda entry: entry[:-1] + b"E",
        lambda entry: b"\x7fELF" + entry[4:],
        lambda entry: entry.replace(b"lanes 1", b"lanes 2"),
    ],
    ids=["truncated", "headless", "empty", "longer", "flipped", "foreign", "other version"],
)
def test_damaged_entries_are_absent_and_replaced(store, damage):
    cache.put(KEY, b"code")
    (store / KEY).write_bytes(damage((store / KEY).read_bytes()))
    assert cache.get(KEY) is None
    cache.put(KEY, b"code")
    assert cache.get(KEY) == b"code"


def test_an_entry_under_another_name_is_absent(store):
    cache.put(KEY, b"code")
    os.rename(store / KEY, store / "other")
    assert cache.get("other") is None


def test_an_entry_that_others_can_write_is_absent(store):
    cache.put(KEY, b"code")
    (store / KEY).chmod(0o622)
    assert cache.get(KEY) is None


def test_a_directory_that_others_can_write_is_not_used(store):
    cache.put(KEY, b"code")
    store.chmod(0o777)
    assert cache.get(KEY) is None
    with pytest.warns(UserWarning, match="only you can write"):
        cache.put("other", b"code")
    assert not (store / "other").exists()


def test_switched_off(monkeypatch, tmp_path):
    monkeypatch.setenv("GPUSIM_CACHE", "off")
    assert cache.root() is None
    cache.put(KEY, b"code")
    assert cache.get(KEY) is None
    assert not any(tmp_path.iterdir())


def test_default_is_below_home(monkeypatch, tmp_path):
    monkeypatch.delenv("GPUSIM_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.root() == tmp_path / ".cache" / "gpusim" / "lanes"


def test_an_unusable_directory_warns_once(store, monkeypatch, recwarn):
    store.parent.write_text("a file where the directory should be")
    cache.put(KEY, b"code")
    cache.put(KEY, b"code")
    assert cache.get(KEY) is None
    (warning,) = recwarn.list
    assert "GPUSIM_CACHE" in str(warning.message)


def test_a_failed_write_leaves_the_old_entry_and_no_rubbish(store, monkeypatch):
    cache.put(KEY, b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.warns(UserWarning, match="No space left"):
        cache.put(KEY, b"new")
    assert cache.get(KEY) == b"old"
    assert [path.name for path in store.iterdir()] == [KEY]


def test_the_longest_unused_go_first(store, monkeypatch):
    for age, key in enumerate(["newest", "middle", "oldest"]):
        cache.put(key, bytes(1000))
        os.utime(store / key, (1000 - age, 1000 - age))
    assert cache.get("oldest") == bytes(1000)  # which makes "middle" the one unused for longest
    monkeypatch.setattr(cache, "LIMIT_BYTES", 3500)
    cache.put("fourth", bytes(1000))
    assert sorted(path.name for path in store.iterdir()) == ["fourth", "newest", "oldest"]


def _hammer(seed: int) -> int:
    """Writes and reads one key, as a process of its own; returns how many reads saw an entry."""
    seen = 0
    for i in range(200):
        cache.put(KEY, bytes([seed]) * (1000 + i))
        found = cache.get(KEY)
        assert found is None or len(set(found)) == 1
        seen += found is not None
    return seen


def test_concurrent_writers_never_show_half_an_entry(store):
    spawn = multiprocessing.get_context("spawn")  # forking a process with JAX's threads is unsafe
    with concurrent.futures.ProcessPoolExecutor(3, mp_context=spawn) as pool:
        assert list(pool.map(_hammer, range(1, 4))) == [200, 200, 200]
    assert [path.name for path in store.iterdir()] == [KEY]
