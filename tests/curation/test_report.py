"""The HTML report: whole in itself, hiding small counts, pictures from the dataset."""

import base64
import re
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from usds.curation.annotate import annotate_dataset
from usds.curation.report import report_html, write_report
from usds.curation.split import split_dataset
from usds.curation.stats import collect_stats
from usds.taxonomy.udt import load_taxonomy


class Outline(HTMLParser):
    """Tags that are open, ids, links and images."""

    VOID = frozenset({"meta", "img", "br", "link"})

    def __init__(self, text):
        super().__init__()
        self.stack, self.images, self.links, self.headings = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        if tag not in self.VOID:
            self.stack.append(tag)
        if tag == "img":
            self.images.append(values)
        self.links += [v for k, v in attrs if k in ("src", "href", "xlink:href") and v]

    def handle_endtag(self, tag):
        while self.stack and self.stack.pop() != tag:
            continue


@pytest.fixture
def dataset(make_dataset, rows):
    frames = [
        rows.frame(frame_id=f"f{i:02}", study_id=f"st{i}", subject_id=f"s{i}", vendor="B" if i < 3 else "A")
        for i in range(30)
    ]
    texts = ["Ultrasound of the liver shows a cyst.", "Thyroid ultrasound shows a nodule."]
    captions = [rows.caption(f"f{i:02}", texts[i % 2]) for i in range(28)]
    return make_dataset(tasks={"t1": (frames, captions)})


def test_the_report_refers_to_nothing_outside(dataset, tmp_path):
    annotate_dataset(dataset, load_taxonomy("udt"))
    split_dataset(dataset, b"k" * 32)
    write_report(dataset, collect_stats(dataset), tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text("utf-8")
    outline = Outline(text)
    assert outline.stack == []
    assert all(link.startswith(("data:image/jpeg;base64,", "#")) for link in outline.links)
    assert "default-src 'none'" in text
    assert not re.search(r"<script|@import|url\((?!#)", text)
    assert "prefers-color-scheme: dark" in text


def test_the_contact_sheet_shows_every_organ_with_a_text_for_those_who_do_not_see(dataset):
    annotate_dataset(dataset, load_taxonomy("udt"))
    images = Outline(report_html(dataset, collect_stats(dataset))).images
    assert len(images) == 24
    shown = " ".join(image["alt"] for image in images)
    assert "Liver" in shown
    assert "Thyroid gland" in shown
    data = base64.b64decode(images[0]["src"].split(",", 1)[1])
    assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape == (48, 64, 3)


def test_small_counts_are_hidden_in_tables_bars_and_tiles(dataset):
    text = report_html(dataset, collect_stats(dataset))
    vendors = text[text.index("Table: Vendors") :]
    cells = re.findall(r"<td>([^<]*)</td>", vendors[: vendors.index("</table>")])
    assert cells == ["A", "*", "*", "B", "&lt;5", "&lt;5"]
    chart = text[text.index("Vendors: frames by category") : text.index("Table: Vendors")]
    assert ">27<" not in chart
    assert "*" in chart


def test_before_annotate_the_report_says_what_is_missing(dataset):
    text = report_html(dataset, collect_stats(dataset))
    assert "No labels yet: run `usds annotate`." in text
    assert "no organ named" in text


def test_an_empty_dataset_has_a_report(make_dataset):
    dataset = make_dataset()
    outline = Outline(report_html(dataset, collect_stats(dataset)))
    assert (outline.stack, outline.images) == ([], [])


def test_the_report_is_the_same_each_time(dataset):
    stats = collect_stats(dataset)
    assert report_html(dataset, stats) == report_html(dataset, stats)


def test_names_are_escaped(make_dataset, rows):
    frames = [rows.frame(frame_id="f", study_id="s", subject_id="p", vendor='<img src="http://x">')]
    dataset = make_dataset(tasks={"t1": (frames, [])})
    assert '<img src="http' not in report_html(dataset, collect_stats(dataset))


def test_a_long_name_is_cut_in_the_chart_and_whole_in_the_table(make_dataset, rows):
    name = "Pediatric gynaecological pathology and infant breast"
    frames = [rows.frame(frame_id=f"f{i}", study_id="s", subject_id=f"p{i}", vendor=name) for i in range(6)]
    dataset = make_dataset(tasks={"t1": (frames, [])})
    text = report_html(dataset, collect_stats(dataset))
    assert text.count(f"<td>{name}</td>") == 1
    assert "Pediatric gynaecological pathology and in…" in text


def test_a_browser_shows_the_report_and_asks_nobody(dataset, tmp_path, browser):
    annotate_dataset(dataset, load_taxonomy("udt"))
    write_report(dataset, collect_stats(dataset), tmp_path / "r.html")
    page = browser.new_page()
    asked, problems = [], []
    page.on("request", lambda request: asked.append(request.url.split(":", 1)[0]))
    page.on("console", lambda message: problems.append(message.text))
    page.goto((tmp_path / "r.html").as_uri())
    page.click("summary >> nth=0")
    assert page.locator("details[open] table").first.is_visible()
    # `decode` waits for the picture and fails for a broken one; its width alone is 0 until the browser gets to it.
    shown = "all => Promise.all(all.map(i => i.decode().then(() => i.naturalWidth)))"
    widths = page.locator(".sheet img").evaluate_all(shown)
    assert len(widths) == 24
    assert min(widths) > 0
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert set(asked) <= {"file", "data"}
    assert problems == []
