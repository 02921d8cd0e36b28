"""What is refused before anything is asked of Spark itself."""

import importlib.machinery
import importlib.util
import sys
import types
from types import SimpleNamespace
from typing import Any

from tests.messages.scene import KEY, Provocations, Scene, leads

HAS_SPARK = importlib.util.find_spec("pyspark") is not None
if not HAS_SPARK:
    sys.modules["pyspark"] = types.ModuleType("pyspark")
    sys.modules["pyspark"].__spec__ = importlib.machinery.ModuleSpec("pyspark", None)
from eb_dagster.spark import enrich as enrich_on_spark  # noqa: E402

if not HAS_SPARK:
    del sys.modules["pyspark"]


class SparkFrame:
    """As much of a Spark dataframe as is looked at before anything is asked of Spark."""

    def __init__(self, master: str, **kinds: str) -> None:
        self.sparkSession = SimpleNamespace(conf={"spark.master": master})
        self.schema = SparkSchema(kinds)

    def mapInArrow(self) -> None:  # noqa: N802 - Spark's word
        raise AssertionError


class SparkSchema(dict[str, str]):
    @property
    def names(self) -> list[str]:
        return list(self)

    def __getitem__(self, name: str) -> Any:
        kind = super().__getitem__(name)
        return SimpleNamespace(dataType=SimpleNamespace(typeName=lambda: kind, simpleString=lambda: kind))


def on_spark(*, master: str = "spark://127.0.0.1:7077", email: str = "string", **chosen: Any) -> Any:
    def act(scene: Scene) -> Any:
        scene.monkeypatch.setenv("EB_DAGSTER_LEDGER", str(scene.ledger))
        enrich_on_spark(SparkFrame(master, email=email), **chosen)

    return act


PROVOCATIONS: Provocations = {
    "no Spark dataframe": lambda _: enrich_on_spark(leads()),
    "a key for Spark": on_spark(api_key=KEY),
    "a proxy's password for Spark": on_spark(proxy="http://me:canary-secret@a.example:80"),
    "a cap on one run for Spark": on_spark(max_credits=5),
    "an unknown setting for Spark": on_spark(max_credit=5),
    "no ledger for Spark": on_spark(ledger=""),
    "a file as the ledger of a cluster": on_spark(),
    "a password in a ledger's address for Spark": on_spark(
        ledger="postgresql://me:canary-secret@127.0.0.1/crm"
    ),
    "numbers as identifiers in Spark": on_spark(master="local[2]", email="bigint"),
}
