from services.gateway.rag.ingest.parsers import rst
from services.gateway.rag.ingest.parsers.extract import Extract

GUIDE = """Guide
=====

Intro with ``code`` and :ref:`target`.

Setup
-----

.. function:: open(door)

   Opens the *door*.

.. code-block:: python
   :emphasize-lines: 1

   import secret

.. include:: /etc/hostname

.. comment

+------+--------+
| Plan | Price  |
+======+========+
| Pro  | 30 EUR |
+------+--------+

Secret
------

The launch code is 4711.
"""


def blocks(extract: Extract) -> list[tuple[str, str]]:
    return [(one.section, extract.text[one.start : one.end]) for one in extract.blocks]


def test_sections_tables_and_unknown_directives_are_read() -> None:
    extract = rst.parse(GUIDE.encode())
    assert extract.title == "Guide"
    assert blocks(extract) == [
        ("Guide", "Guide"),
        ("Guide", "Intro with code and :ref:`target`."),
        ("Guide › Setup", "Setup"),
        ("Guide › Setup", "open(door)"),
        ("Guide › Setup", "Opens the door."),
        (
            "Guide › Setup",
            ".. code-block:: python\n   :emphasize-lines: 1\n\n   import secret",
        ),
        ("Guide › Setup", "Plan | Price"),
        ("Guide › Setup", "Pro | 30 EUR"),
        ("Guide › Secret", "Secret"),
        ("Guide › Secret", "The launch code is 4711."),
    ]


def test_the_title_may_be_the_first_of_several() -> None:
    assert rst.parse(b"One\n===\n\na\n\nTwo\n===\n\nb\n").title == "One"
    assert rst.parse(b"Only text.\n").title == ""


def test_a_table_that_is_broken_is_kept() -> None:
    text = rst.parse(b"==== ====\nPlan Price\n==== ====\nPro  30\n====\n\nEnd.\n").text
    assert "Pro  30" in text
    assert text.endswith("End.")
