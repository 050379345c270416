"""What reads results needs neither the model libraries nor what only POSIX systems have."""

import json
import os
import subprocess
import sys
from pathlib import Path

import light_commands
from aftertune.errors import MODEL_PACKAGES

POSIX_ONLY = ("fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "syslog", "posix_ipc")


def test_results_are_read_where_no_model_library_and_no_posix_module_is(tmp_path: Path):
    hidden = [*MODEL_PACKAGES, *(POSIX_ONLY if os.name == "posix" else ())]  # others have none to hide
    script = [sys.executable, light_commands.__file__, str(tmp_path), "hide", *hidden]
    done = subprocess.run(script, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert {*MODEL_PACKAGES, *POSIX_ONLY} & set(told["loaded"]) == set()
    light_commands.assert_as_promised(told["found"], tmp_path)
    if os.name != "posix":
        return
    # Without a lock a writer goes on, and says what nobody keeps away.
    assert "no file locks: let only one process write to run" in told["found"]["run study.yaml --out run"][1]


def test_nothing_needs_a_posix_module_to_be_imported():
    code = (
        "import sys, light_commands\n"
        f"hidden = {POSIX_ONLY!r}\n"
        "sys.meta_path[:] = [light_commands.Without(finder, list(hidden)) for finder in sys.meta_path]\n"
        "for name in hidden: sys.modules.pop(name, None)\n"
        "import warnings; warnings.simplefilter('ignore')\n"
        "import importlib, pkgutil, aftertune\n"
        "names = [m.name for m in pkgutil.walk_packages(aftertune.__path__, 'aftertune.')]\n"
        "heavy = ('aftertune.engines.', 'aftertune.tuning.', 'aftertune.executors.ray')\n"
        "light = [n for n in names if not n.startswith(heavy)]\n"
        "for name in light:\n"
        "    if not name.endswith('__main__'): importlib.import_module(name)\n"
        "print(len(light))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parent, timeout=600
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 150
