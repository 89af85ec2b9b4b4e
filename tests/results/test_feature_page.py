"""The table of features: what its files hold is what was given, and a real browser shows, sorts and finds it."""

import html
import json
import re

import numpy as np
import pytest

from interp_jax.results.blocks import Section
from interp_jax.results.feature_page import FULL, explorer, fires_on, received, unpacked
from interp_jax.results.report import render, write_report
from tests.results import example_features
from tests.results.hostile_text import HOSTILE

N, MANY = 600, 12_000
FROZEN = {"ready": 30_000, "sort": 1_000, "filter": 1_000}  # milliseconds: twenty times what a laptop takes, and more


def with_hostile_text(n):
    features = example_features.features(n)
    features.names[3] = HOSTILE
    features.strongest.tokens[0, 0] = 3
    return features


@pytest.fixture(scope="module")
def made():
    return with_hostile_text(N)


@pytest.fixture(scope="module")
def files(made):
    _, files = explorer("demo", made, "caption")
    return {name: received(content) for name, content in files.items()}


def test_there_is_an_index_and_a_file_for_every_256_features(files):
    assert sorted(files) == [f"features/demo/{name}.js" for name in ("0", "1", "2", "index")]
    assert unpacked(files["features/demo/2.js"]["full"]).shape == (N - 512,)


def test_what_is_written_is_what_was_given(made, files):
    index = files["features/demo/index.js"]
    told = index["concepts"]
    assert told["names"] == list(made.concepts.names)
    np.testing.assert_array_equal(unpacked(told["ids"]), made.concepts.best.ids[:, 0])
    np.testing.assert_array_equal(
        unpacked(files["features/demo/1.js"]["concepts"]["values"]), made.concepts.best.values[256:512]
    )
    for title, values in made.columns.items():
        np.testing.assert_array_equal(unpacked(index["columns"][title]), values)
    for word, values in made.flags.items():
        np.testing.assert_array_equal(unpacked(index["flags"][word]), values)
    texts = np.array([*index["names"], None], object)  # -1 is no token
    names = np.array([*made.names, None], object)
    for k in range(3):
        part, content = slice(256 * k, 256 * (k + 1)), files[f"features/demo/{k}.js"]
        np.testing.assert_array_equal(unpacked(content["histogram"]), made.histogram[part])
        full = unpacked(content["full"])[:, None, None]
        for kind in ("strongest", "quantiles"):
            given = getattr(made, kind)
            np.testing.assert_array_equal(texts[unpacked(content[kind]["tokens"])], names[given.tokens[part]])
            np.testing.assert_array_equal(unpacked(content[kind]["there"]), given.there[part])
            values = unpacked(content[kind]["values"]) / FULL * full
            assert (np.abs(values - given.values[part]) <= full / FULL).all()
        for title, of in made.tokens.items():
            np.testing.assert_array_equal(texts[unpacked(content["tokens"][title]["ids"])], names[of.ids[part]])
            np.testing.assert_array_equal(unpacked(content["tokens"][title]["values"]), of.values[part])
        np.testing.assert_array_equal(unpacked(content["neighbours"]["ids"]), made.neighbours.ids[part])
        np.testing.assert_array_equal(unpacked(content["neighbours"]["overlap"]), made.overlap[part].astype("f4"))


def test_only_tokens_that_occur_have_a_text(made, files):
    index = files["features/demo/index.js"]
    shown = {made.names[t] for of in (made.strongest, made.quantiles) for t in np.unique(of.tokens) if t >= 0}
    shown |= {made.names[t] for of in made.tokens.values() for t in np.unique(of.ids)}
    assert set(index["names"]) == shown and len(index["names"]) == len(shown)


def test_a_feature_fires_on_the_most_frequent_of_its_tokens(made):
    own = made.strongest.tokens[:, :, made.strongest.place].copy()
    own[5], own[6] = [8, 9, 9, 7, 7, 1, 1, 1, 2, 3, 4, 6], 11
    tokens = made.strongest.tokens.copy()
    tokens[:, :, made.strongest.place] = own
    there = made.strongest.there.copy()
    there[5:7], there[7] = True, False
    found = fires_on(made.strongest._replace(tokens=tokens, there=there))
    assert found[5].tolist() == [1, 9, 7] and found[6].tolist() == [11, -1, -1] and found[7].tolist() == [-1] * 3


def test_files_are_ascii_and_the_page_has_each_script_once(made):
    insert, files = explorer("demo", made, "caption")
    assert all(content.isascii() for content in files.values())
    page = render("t", "s", [insert, insert])
    assert page.count('<div class="features" data-name="demo"></div>') == 2
    assert page.count("const features = ") == 1 and page.count(".features .bar {") == 1
    assert "const features" not in render("t", "s", [])


ASK = """<script>
new MutationObserver((_, observer) => {
  observer.disconnect();
  const [e] = features.explorers.values(), told = {};
  const first = () => Number(e.rows.firstChild.firstChild.firstChild.textContent);
  told.rows = e.rows.firstChild.children.length;
  e.sort("max"); told.largest = first();
  e.sort("max"); told.smallest = first();
  e.sort("clamped KL"); told.last = e.found.at(-1);
  e.sort("probe score"); told.tells = [first(), e.found.at(-1)];
  told.concept = e.rows.firstChild.firstChild.children[3].textContent;
  e.sort("tells"); told.grouped = Array.from(e.found);
  e.search.value = "In Comment"; e.filter(); told.comment = Array.from(e.found);
  e.search.value = "577"; e.filter(); told.number = first();
  e.search.value = "SELF"; e.filter(); told.self = Array.from(e.found).sort((a, b) => a - b);
  e.search.value = "no such token"; e.filter(); told.nothing = e.found.length;
  e.search.value = ""; e.choice.value = "+dead"; e.filter(); told.dead = e.found.length;
  const quickest = (f) => Math.min(...[1, 2, 3].map(() => { const t = performance.now(); f(); return performance.now() - t; }));
  e.choice.value = ""; told.sort = quickest(() => e.sort("density"));
  e.search.value = "self"; told.filter = quickest(() => e.filter());
  told.ready = Number(e.element.dataset.ready);
  e.choose(0).then(() => {
    told.concepts = Array.from(e.one.querySelectorAll(".tells span"), (span) => span.textContent);
    told.spans = e.one.querySelectorAll(".snippet span").length;
    told.hover = e.one.querySelector(".snippet span.own").title;
    document.body.dataset.told = JSON.stringify(told);
  });
}).observe(document.querySelector(".features"), { attributes: true, attributeFilter: ["data-ready"] });
</script></body>"""


@pytest.mark.slow
def test_a_browser_shows_sorts_and_finds_twelve_thousand_features(browse, tmp_path):
    """And does not freeze: the quickest of three times is far below what a person would call one, however busy the machine."""
    made = with_hostile_text(MANY)
    insert, files = explorer("demo", made, "caption")
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    path = write_report(tmp_path, "Features", "", [Section("Features"), insert])
    path.write_text(path.read_text().replace("</body>", ASK))
    dom, console, addresses = browse(path)
    assert console == [] and addresses == set()
    told = json.loads(html.unescape(re.search(r'data-told="(.*?)"', dom)[1]))
    largest, kl = made.columns["max"], made.columns["clamped KL"]
    assert told["rows"] < 60 and told["largest"] == np.nanargmax(largest) and told["smallest"] == np.nanargmin(largest)
    assert np.isnan(kl[told["last"]])
    best, score = made.concepts.best.ids[:, 0], made.columns["probe score"]
    assert told["tells"][0] == np.nanargmax(score) and np.isnan(score[told["tells"][1]])
    assert told["concept"] == made.concepts.names[best[np.nanargmax(score)]]
    alive = [i for i in told["grouped"] if best[i] >= 0]
    assert alive == sorted(alive, key=lambda i: (made.concepts.names[best[i]], -score[i]))
    assert sorted(told["comment"]) == np.flatnonzero(best == 0).tolist()
    shown = [made.concepts.names[c] for c in made.concepts.best.ids[0]]
    assert [text.rsplit(" ", 1)[0] for text in told["concepts"]] == shown
    assert told["number"] == 577 and told["nothing"] == 0 and told["dead"] == made.flags["dead"].sum()
    says = lambda ids: any("self" in made.names[t].lower() for t in ids if t >= 0)
    fires = fires_on(made.strongest)
    listed = [[*fires[i], *(t for of in made.tokens.values() for t in of.ids[i, :3])] for i in range(MANY)]
    assert told["self"] == [i for i in range(MANY) if says(listed[i])]
    assert all(0 < told[what] < most for what, most in FROZEN.items()), {what: told[what] for what in FROZEN}
    inside = [(of.tokens[0] >= 0) & of.there[0][:, None] for of in (made.strongest, made.quantiles)]
    assert told["spans"] == sum(x.sum() for x in inside)
    assert "broken out" not in re.search(r"<title>(.*?)</title>", dom)[1] and "<img" not in dom


@pytest.mark.slow
def test_without_its_files_the_page_says_what_is_missing(made, browse, tmp_path):
    insert, _ = explorer("demo", made, "caption")
    dom, _, _ = browse(write_report(tmp_path, "Features", "", [insert]))
    assert "This part reads features/demo/index.js, which has to lie beside this page." in dom
