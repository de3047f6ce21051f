"""docs/metrics.md is what the declarations say, every metric once, under the question that it answers."""

from collections import Counter
from pathlib import Path

from infra.metrics_document import QUESTIONS, declared, document

FILE = Path(__file__).parents[2] / "docs" / "metrics.md"


def test_the_document_in_docs_is_the_one_the_declarations_make() -> None:
    hint = "write it anew: python -m infra.metrics_document > docs/metrics.md"
    assert FILE.read_text("utf-8") == document(), hint


def test_every_metric_answers_one_question() -> None:
    asked = Counter(name for names in QUESTIONS.values() for name in names)
    assert set(asked) == set(declared()), "put it under the question that it answers"
    assert max(asked.values()) == 1
