"""Every number of the catalogue of faults has something that commits it, or a reason why not."""

import re
from collections.abc import Iterable
from pathlib import Path

from tests.faults import test_campaign, test_together
from tests.faults.scenes import ON_BOTH, ON_POSTGRESQL, ON_SQLITE, UNDER_DAGSTER
from tests.faults.table import FAULTS

TESTS = Path(__file__).parents[1]

CATALOGUE = set(range(1, 105))

# What is shown by another function below tests/.
ELSEWHERE = {
    63: "test_two_processes_send_as_fast_as_is_allowed_and_are_not_refused",
    69: "test_a_process_killed_at_any_call_to_the_system_neither_pays_twice_nor_forgets",
    70: "test_a_process_killed_at_a_random_moment_neither_pays_twice_nor_forgets",
    74: "test_a_fork_after_opening_cannot_buy_and_takes_nothing_from_its_parent",
    79: "test_a_power_cut_at_any_time_forgets_no_request",
    80: "test_a_disk_that_is_full_or_fails_at_any_write_costs_nothing_twice",
    81: "test_a_disk_that_is_full_or_fails_at_any_write_costs_nothing_twice",
    85: "test_a_flipped_bit_in_the_ledger_is_refused_or_harmless",
    88: "test_a_network_file_system_is_told_by_the_mount_the_path_is_on",
    89: "test_what_a_killed_writer_left_behind_is_cleared_by_the_next_one",
    90: "test_a_reader_sees_the_old_table_or_the_new_one_and_nothing_between",
    # The key and made-up people are planted in every case and every scene, and the judges search for them.
    101: "judge",
    102: "test_who_is_forgotten_is_never_bought_again_under_any_address",
    103: "test_each_partition_has_a_file_of_its_own_inside_the_folder",
    104: "test_formulas_of_ours_become_text_and_the_users_cells_stay",
}

NOT_COVERED: dict[int, str] = {}
"""Number: why nothing commits it."""


def numbers_in(names: Iterable[str]) -> set[int]:
    """The numbers at the head of names such as "84, 96 an older copy"."""
    heads = [re.match(r"(?:\d+(?:, )?)+", name) for name in names]
    return {int(number) for head in heads if head for number in re.findall(r"\d+", head[0])}


def functions_below(folder: Path) -> set[str]:
    sources = [file.read_text("utf-8") for file in folder.rglob("*.py")]
    return {name for source in sources for name in re.findall(r"^def (\w+)\(", source, re.MULTILINE)}


def test_every_number_of_the_catalogue_is_committed_or_excused():
    names = [*ON_BOTH, *ON_SQLITE, *ON_POSTGRESQL, *UNDER_DAGSTER]
    covered = {fault.number for fault in FAULTS} | numbers_in(names) | set(ELSEWHERE) | set(NOT_COVERED)
    assert sorted(CATALOGUE - covered) == []
    assert sorted(covered - CATALOGUE - {0}) == []
    assert all(NOT_COVERED.values())


def test_the_short_form_commits_every_number():
    scenes = [*test_together.ON_SQLITE, *test_together.ON_POSTGRESQL]
    covered = {fault.number for fault in test_campaign.SHORT_FAULTS} | numbers_in(scenes) | set(ELSEWHERE)
    assert sorted(CATALOGUE - covered - set(NOT_COVERED)) == []


def test_what_is_said_to_be_elsewhere_is_there():
    assert set(ELSEWHERE.values()) <= functions_below(TESTS)


def test_numbers_are_read_from_the_head_of_a_name_alone():
    assert numbers_in(["84, 96 an older copy", "caps", "97 overlapping input, 2 killed"]) == {84, 96, 97}
