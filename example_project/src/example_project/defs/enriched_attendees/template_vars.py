import dagster as dg

from example_project.paths import DATA


@dg.template_var
def data() -> str:
    """Where the table goes."""
    return str(DATA)
