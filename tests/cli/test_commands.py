import subprocess
import sys


def test_help_answers_at_once():
    heavy = "{'pandas', 'pyarrow', 'dagster', 'sqlalchemy', 'numpy', 'tqdm', 'requests', 'pandera'}"
    code = f"import sys\ntry:\n    from eb_dagster.cli import main; main(['--help'])\nfinally:\n    print({heavy} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.endswith("set()\n")
    assert "Exit codes" in ran.stdout
    assert "_EB_DAGSTER_COMPLETE=bash_source" in ran.stdout
