"""Two users of one machine: neither can take the other's names, or have a stream write where it should not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.live_stream import LiveStream

pytestmark = pytest.mark.system

_ANOTHER, _OURS = 54_322, 54_321
_VICTIM = """
import os, sys
from nire.types import Geometry
from stream.config import RingConfig
from stream.processes.board import Board
from stream.rings.carriers import carrier, usual
from stream.rings.ring import RingReader, RingWriter, sweep
from stream.rings.place import RingSpace
carrier(usual())  # while this user may still read where Python is installed
os.setgroups([]); os.setgid({uid}); os.setuid({uid})
os.environ.pop("XDG_RUNTIME_DIR", None)
ring = RingConfig(seconds=0.05)
with Board.create("two", ["a"]) as board:
    sweep("two")
    with RingWriter("two", Geometry(8, 8), ring) as writer, RingReader("two", ring) as reader:
        writer.finish()
        reader.read(1.0)
        assert reader.ended
        print(RingSpace.of("two").root)
    board.remove()
sweep("two")
assert RingSpace.of("two").leftovers() == []
"""


_MEDDLER = """
import fcntl, os, sys
os.setgroups([]); os.setgid({uid}); os.setuid({uid})
done = []
def tried(what, path, *arguments):
    try:
        what(path, *arguments)
    except OSError:
        return
    done.append(f"{{what.__name__}} {{path}}")
for path in sys.argv[1:]:
    tried(os.open, path, os.O_RDWR)
    tried(os.truncate, path, 0)
    tried(os.rename, path, path + ".gone")
    tried(os.chmod, path, 0o777)
    tried(os.listdir if os.path.isdir(path) else os.unlink, path)
print("\\n".join(done))
"""


@pytest.mark.parametrize("carrier", ["iceoryx2", "seqlock"])
def test_another_user_can_neither_write_remove_nor_rename_what_a_running_stream_has(carrier: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can be two users")
    with LiveStream(f"ring.carrier={carrier}") as stream:
        stream.until_exposing()
        found = [str(path) for path in (*stream.space.leftovers(), stream.space.root, stream.space.root.parent)]
        meddler = [sys.executable, "-c", _MEDDLER.format(uid=_ANOTHER), *found]
        done = subprocess.run(meddler, check=True, capture_output=True, text=True)
        stream.until_exposing()
        code, log = stream.end()
    assert len(found) > 10
    assert done.stdout.strip() == ""
    assert code == 0, log
    assert stream.is_clean()


@pytest.mark.parametrize("trap", ["folder", "link", "file"])
def test_another_user_can_neither_squat_a_name_nor_have_a_file_overwritten(tmp_path: Path, trap: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can be two other users")
    precious = tmp_path / "precious"
    precious.mkdir()
    make = {"folder": "os.mkdir(p, 0o777)", "link": f"os.symlink({str(precious)!r}, p)", "file": "open(p, 'w').close()"}
    squat = f"import os; os.setgid({_ANOTHER}); os.setuid({_ANOTHER}); p = '/tmp/nire-{_OURS}'; {make[trap]}"
    subprocess.run([sys.executable, "-c", squat], check=True)
    try:
        done = subprocess.run(
            [sys.executable, "-c", _VICTIM.format(uid=_OURS)], check=False, capture_output=True, text=True
        )
    finally:
        place = Path(f"/tmp/nire-{_OURS}")
        shutil.rmtree(place) if place.is_dir() and not place.is_symlink() else place.unlink()
    assert done.returncode == 0, done.stderr
    root = done.stdout.strip()
    assert root.startswith(f"/tmp/nire-{_OURS}-")
    shutil.rmtree(Path(root).parent)
    assert list(precious.iterdir()) == []
