from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
import pytest
from dagster.components.testing import create_defs_folder_sandbox

from eb_dagster import EnrichedContactsComponent

# Dagster's own, when it reads a defs.yaml.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20"),
    pytest.mark.filterwarnings("ignore::dagster.BetaWarning"),
]


@contextmanager
def loaded(attributes: dict) -> Iterator[tuple[dg.Component, dg.Definitions]]:
    """The component as `dg` loads it from a defs.yaml."""
    with create_defs_folder_sandbox() as project:
        path = project.scaffold_component(
            EnrichedContactsComponent,
            defs_yaml_contents={
                "type": "eb_dagster.EnrichedContactsComponent",
                "attributes": attributes,
            },
        )
        with project.load_component_and_build_defs(defs_path=path) as both:
            yield both


def test_a_defs_yaml_makes_the_asset_and_its_check(tmp_path):
    attributes = {"name": "enriched", "source": "leads", "path": str(tmp_path / "out.parquet")}
    with loaded(attributes) as (component, defs):
        assert isinstance(component, EnrichedContactsComponent)
        assert [asset.key for asset in defs.assets] == [dg.AssetKey("enriched")]
        # Resources are the project's.
        assert not defs.resources
