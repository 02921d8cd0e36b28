import ast
import inspect

from eb_dagster.contacts import parser
from eb_dagster.contacts.contact import FILLED_COLUMNS


def test_the_values_of_a_contact_are_given_in_the_order_of_the_columns():
    calls = [node for node in ast.walk(ast.parse(inspect.getsource(parser))) if isinstance(node, ast.Call)]
    (made,) = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "new_values"]
    assert [ast.unparse(argument) for argument in made.args] == list(FILLED_COLUMNS)
