import socket
import subprocess
import sys

import pytest

from tests.archives.conftest import public


def test_a_connection_that_leaves_this_machine_is_refused():
    with socket.socket() as one, pytest.raises(AssertionError, match="only this machine"):
        one.connect(("192.0.2.1", 80))


def test_importing_the_archives_connects_to_nothing(repository):
    code = (
        "import socket\n"
        "def refuse(*args): raise SystemExit(f'connects to {args}')\n"
        "socket.socket.connect = refuse\n"
        "import astrid.archives, astrid.surveys.ztf, astrid.workflow.fetch\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_no_public_address_is_on_this_machine():
    assert not [name for name, service in public().services.items() if "127.0.0.1" in service.url]
