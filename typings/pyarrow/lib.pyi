"""pandas-stubs and DuckDB name pyarrow's classes by this module."""

from pyarrow import *
