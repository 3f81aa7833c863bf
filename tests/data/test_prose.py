"""Prose that every machine has."""

from pathlib import Path

import pytest

from preceptor.data.prose import articles, python_topics
from preceptor.data.splitting import split_rows
from preceptor.errors import DataError

WIKITEXT = Path(__file__).parents[3] / "shared" / "data" / "wikitext2"


def test_pythons_help_is_some_hundred_thousand_characters_of_english() -> None:
    rows = python_topics()
    assert sum(len(row.text or "") for row in rows) > 300_000
    assert all(len(part) > 3 for part in split_rows(rows))


def test_articles_begin_at_their_titles(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(
        " \n = One = \n \n text \n \n = = Section = = \n \n more \n \n = Two = \n \n text \n"
    )
    (tmp_path / "LICENSE.txt").write_text("free\n")
    rows = articles(tmp_path)
    assert [row.place for row in rows] == ["a.txt:2", "a.txt:10"]
    assert rows[0].text == "= One = \n \n text \n \n = = Section = = \n \n more"
    with pytest.raises(DataError, match="no article"):
        articles(tmp_path / "LICENSE.txt")


@pytest.mark.skipif(not WIKITEXT.is_dir(), reason="WikiText-2 is not on this machine")
def test_wikitext_falls_into_its_articles() -> None:
    assert len(articles(WIKITEXT)) == 120
