import os
import subprocess

import pytest

from eb_dagster.cli import main
from tests.cli.shell import COMMAND, Ran


@pytest.fixture
def shell(tmp_path, monkeypatch, capsys):
    """Run `eb-dagster …` in a folder of its own, against the sandbox that is given."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EXACTBUYER_API_KEY", "canary-key")
    monkeypatch.setenv("EB_DAGSTER_LEDGER", str(tmp_path / "ledger.db"))

    def run(api, *arguments: str) -> Ran:
        monkeypatch.setenv("EXACTBUYER_BASE_URL", api.url)
        with pytest.raises(SystemExit) as ended:
            main([*arguments], prog_name="eb-dagster")
        told = capsys.readouterr()
        assert "canary" not in told.out + told.err
        return Ran(int(ended.value.code or 0), told.out, told.err)

    return run


@pytest.fixture
def terminal(tmp_path, shell):
    """Run `eb-dagster …` on a terminal of its own and answer its question."""
    pty, termios = pytest.importorskip("pty"), pytest.importorskip("termios")
    # It gives the folder, the key and the ledger.
    del shell

    def run(api, *arguments: str, answer: str = "", columns: int = 120, **pipes: int) -> tuple[int, str]:
        ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (40, columns))
        environment = {**os.environ, "EXACTBUYER_BASE_URL": api.url}
        streams = {"stdin": theirs, "stdout": theirs, "stderr": theirs, **pipes}
        process = subprocess.Popen([*COMMAND, *arguments], env=environment, cwd=tmp_path, **streams)
        os.close(theirs)
        shown = b""
        while True:
            try:
                piece = os.read(ours, 65_536)
            except OSError:
                # So Linux says that nobody has the terminal open any more.
                piece = b""
            if not piece:
                break
            shown += piece
            if answer and b"[y/N]" in shown:
                os.write(ours, f"{answer}\n".encode())
                answer = ""
        os.close(ours)
        return process.wait(60), shown.decode()

    return run
