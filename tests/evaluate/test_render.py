import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from preceptor.evaluate import plots
from preceptor.evaluate.assembly import build_report
from preceptor.evaluate.render import render_html
from preceptor.evaluate.report import Value

EVIL = '<script>alert("x")</script>'


class Page(HTMLParser):
    """The tags, what they point at, and the text outside styles."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.links, self.ids, self.text = [], [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [v for k, v in attrs if k in ("src", "href", "xlink:href", "action") and v]
        self.ids += [v for k, v in attrs if k == "id"]

    def handle_data(self, data):
        if self.tags[-1:] != ["style"]:
            self.text.append(data)


@pytest.fixture(scope="module")
def html(report):
    return render_html(report)


def test_the_page_needs_nothing_from_outside_and_runs_nothing(html):
    page = Page(html)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in page.links)
    assert "@import" not in html
    assert set(re.findall(r"url\((.)", html)) <= {"#"}
    assert "http" not in html


def test_all_pictures_are_there_with_the_text_as_text(html):
    page = Page(html)
    assert page.tags.count("svg") == 8
    assert {"confidence, %", "latency, ms", "gain over the control, points"} <= set(
        map(str.strip, page.text)
    )


def test_pictures_take_their_colours_from_the_page(html):
    assert "#0102" not in html
    assert html.count("var(--arm1)") > 5
    assert "DejaVu" not in html


def test_no_accuracy_is_drawn_above_100(report):
    best = Value(1.0, 0.7, 1.0, 40, "fraction")
    arms = tuple(replace(arm, measures={**arm.measures, "accuracy": best}) for arm in report.arms)
    picture = plots.against(replace(report, arms=arms), "parameters", "parameters")
    assert picture is not None
    numbers = [each for each in Page(str(picture.drawn())).text if each.strip().isdigit()]
    assert max(map(float, numbers)) == 100


def test_what_pictures_point_at_is_in_the_page(html):
    page = Page(html)
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)


def test_verdict_recipe_versions_and_seeds_stand_in_the_page(html, report):
    text = " ".join(Page(html).text)
    assert report.verdict.headline in text
    for words in ("student: {model: {zoo: cnn-small}}", "2.13.0", "x86_64", "Seeds: 0, 1, 2, 3"):
        assert words in text


def test_an_arm_without_a_number_of_a_kind_has_no_column_there(html):
    groups = {
        part.split("</summary>")[0]: part.split("</thead>")[0]
        for part in html.split("<summary>")[1:]
    }
    fidelity = groups["Fidelity: the same answers as the teacher"]
    assert "control</th>" in fidelity
    assert "teacher</th>" not in fidelity
    assert "teacher</th>" in groups["Calibration"]


def test_strings_from_users_are_escaped_everywhere(fake):
    result = fake(
        seeds=3,
        items=60,
        name=EVIL,
        classes=(EVIL, "$x^$", "猫", "&amp;", "'\"", "a\nb", *"ghij"),
        skill={"distilled": 2.0, "control": 1.7, EVIL: 1.8},
        recipe=f"a: {EVIL}",
        versions={EVIL: EVIL},
        hardware={EVIL: EVIL},
        phases={EVIL: 1.0},
        warnings=(EVIL,),
    )
    page = Page(render_html(build_report(result)))
    assert "script" not in page.tags
    assert sum(EVIL in text for text in page.text) >= 8
    assert any("&amp;" in text for text in page.text)


@pytest.mark.parametrize(
    "changes",
    [
        {"teacher": None, "timing": None},
        {"skill": {"distilled": 2.0}},
        {"seeds": 1},
        {"classes": tuple(f"a class with number {i}" for i in range(101)), "items": 202},
        {"skill": {f"member {i}": 2.0 for i in range(9)} | {"control": 1.8}},
    ],
)
def test_runs_that_lack_something_still_have_a_page(fake, changes):
    report = build_report(fake(**({"seeds": 3, "items": 60} | changes)))
    assert report.verdict.headline in " ".join(Page(render_html(report)).text)


def test_the_same_report_gives_the_same_page(html, report):
    assert render_html(report) == html
