import textwrap

import pytest

from tests import measures

EXAMPLE = '''
"""A file."""

from typing import Any, cast

from shop.till import price


def choose(people: list[Any], one: str) -> object:
    """Find somebody."""
    if not people or one == "nobody":
        return None
    names = [name for name in people if name]  # fmt: skip
    at = cast("int", names.index(one))
    return names[at]


def empty() -> None:
    """Do nothing."""
'''


@pytest.fixture
def shop(tmp_path):
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "till.py").write_text("price = 5\n")
    (folder / "people.py").write_text(textwrap.dedent(EXAMPLE).lstrip())
    return measures.measure(folder)


def test_lines_and_bodies_are_counted_without_docstrings(shop):
    assert shop.lines == [0, 18, 1]
    assert {function.name: function.body_lines for function in shop.functions} == {"choose": 5, "empty": 0}


def test_each_branch_adds_one_to_the_complexity(shop):
    # 1, and: if, or, comprehension, if.
    assert {function.name: function.complexity for function in shop.functions} == {"choose": 5, "empty": 1}


def test_what_hides_types_and_layout_is_counted_in_a_thousand_lines(shop):
    thousand = 1000 / 19
    assert shop.casts_rate == pytest.approx(thousand)
    assert shop.any_rate == pytest.approx(thousand)
    assert shop.unformatted_rate == pytest.approx(thousand)
    assert shop.unchecked_rate == 0


def test_forbidden_names_are_found_where_they_are_given(shop):
    places = [place.rsplit("/", 1)[1] for place in shop.forbidden_names]
    assert places == ["people.py:8 one", "people.py:13 at"]


def test_imports_within_the_folder_are_counted_once_for_each_pair(shop):
    assert shop.imports == 1


def test_the_table_has_a_column_for_each_folder(shop):
    lines = measures.table([shop, shop]).splitlines()
    assert len({line.count("|") for line in lines}) == 1
    assert lines[0].count("shop") == 2


def test_the_limits_are_held():
    package = measures.measure(measures.ROOT / "eb_dagster")
    assert package.casts_rate <= measures.MOST_CASTS_RATE
    assert package.any_rate <= measures.MOST_ANY_RATE
    assert package.unformatted_rate <= measures.MOST_UNFORMATTED_RATE
    assert package.mean_complexity <= measures.MOST_MEAN_COMPLEXITY
    assert not [*package.long_files, *package.complex_functions, *package.forbidden_names]
    assert measures.readme_lines() <= measures.MOST_README_LINES
