import dagster as dg
import pandas as pd

from example_project.paths import export


@dg.asset(group_name="webinar", kinds={"csv"})
def attendees() -> pd.DataFrame:
    """Who came to a webinar. Two of three are leads already, so they cost nothing."""
    return pd.read_csv(export("attendees.csv"), dtype=str)
