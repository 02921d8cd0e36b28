"""Every number of the catalogue of faults has something that commits it, or a reason why not."""

import importlib
import re

from tests.faults import together
from tests.faults.orchestrated import UNDER_DAGSTER
from tests.faults.table import FAULTS

CATALOGUE = set(range(1, 105))

# What other files show; each is a function, in the module that is named before it.
ELSEWHERE = {
    63: ("test_together", "test_two_processes_send_as_fast_as_is_allowed_and_are_not_refused"),
    69: ("test_crashes", "test_a_process_killed_at_any_call_to_the_system_neither_pays_twice_nor_forgets"),
    70: ("test_crashes", "test_a_process_killed_at_a_random_moment_neither_pays_twice_nor_forgets"),
    74: ("test_crashes", "test_a_fork_after_opening_cannot_buy_and_takes_nothing_from_its_parent"),
    79: ("test_images", "test_a_power_cut_at_any_time_forgets_no_request"),
    80: ("test_storage", "test_a_disk_that_is_full_or_fails_at_any_write_costs_nothing_twice"),
    81: ("test_storage", "test_a_disk_that_is_full_or_fails_at_any_write_costs_nothing_twice"),
    85: ("test_storage", "test_a_flipped_bit_in_the_ledger_is_refused_or_harmless"),
    88: (".ledger.test_sqlite", "test_a_network_file_system_is_told_by_the_mount_the_path_is_on"),
    89: ("test_storage", "test_what_a_killed_writer_left_behind_is_cleared_by_the_next_one"),
    90: ("test_storage", "test_a_reader_sees_the_old_table_or_the_new_one_and_nothing_between"),
    # Planted in every case and every scene, and searched for by their judges.
    101: ("campaign", "judge"),
    102: (".ledger.test_forgetting", "test_who_is_forgotten_is_never_bought_again_under_any_address"),
    103: (".definitions.test_assets", "test_each_partition_has_a_file_of_its_own_inside_the_folder"),
    104: (".tables.test_csv", "test_formulas_of_ours_become_text_and_the_users_cells_stay"),
}

NOT_COVERED: dict[int, str] = {}
"""Number: why nothing commits it."""


def numbers_in(names: list[str]) -> set[int]:
    """The numbers at the head of names such as "84, 96 an older copy"."""
    heads = [re.match(r"(?:\d+(?:, )?)+", name) for name in names]
    return {int(one) for head in heads if head for one in re.findall(r"\d+", head[0])}


def scenes() -> list[str]:
    return [*together.ON_BOTH, *together.ON_SQLITE, *together.ON_POSTGRESQL, *UNDER_DAGSTER]


def test_every_number_of_the_catalogue_is_committed_or_excused():
    covered = {one.number for one in FAULTS} | numbers_in(scenes()) | set(ELSEWHERE) | set(NOT_COVERED)
    assert sorted(CATALOGUE - covered) == []
    assert sorted(covered - CATALOGUE - {0}) == []
    assert all(NOT_COVERED.values())


def test_what_is_said_to_be_elsewhere_is_there():
    for module, name in ELSEWHERE.values():
        found = getattr(importlib.import_module(f".{module}", __package__), name)
        assert callable(found)


def test_numbers_are_read_from_the_head_of_a_name_alone():
    assert numbers_in(["84, 96 an older copy", "caps", "97 overlapping input, 2 killed"]) == {84, 96, 97}
