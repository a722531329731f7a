"""The page in a real browser: nothing is complained of or fetched, filters and keys work, attention answers."""

import re
from pathlib import Path
from typing import Any

import pytest
from browser import address, chromium, complaints, fetched

pytestmark = pytest.mark.slow

SEEN = "return [...document.querySelectorAll('.card')].filter((card) => !card.hidden).length"
PAINTED = """
    const [done] = arguments;  // a browser drops keys that are pressed before it has painted anything
    new PerformanceObserver((_, one) => { one.disconnect(); done(); }).observe({ type: "paint", buffered: true });
"""


@pytest.fixture(scope="module")
def window():
    with chromium() as window:
        yield window


@pytest.fixture
def page(call, chain, window: Any, tmp_path: Path) -> Path:
    """The page of the tiny chain, opened."""
    target = tmp_path / "report.html"
    answer = call("report", "--device", "cpu", "--references", "2", "--output", target, cwd=chain.folder)
    assert answer.code == 0, answer.err
    complaints(window), fetched(window)
    window.get(address(target))
    window.execute_async_script(PAINTED)
    return target


def press(window: Any, *keys: str) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(window).send_keys(*keys).perform()


def test_nothing_is_complained_of_and_nothing_fetched(page: Path, window: Any) -> None:
    assert fetched(window) == [address(page)]
    assert not complaints(window)
    assert window.execute_script("return document.images.length") > 0
    decoded = "Promise.all([...document.images].map((image) => { image.loading = 'eager'; return image.decode(); }))"
    assert window.execute_async_script(f"{decoded}.then(() => arguments[0](true), () => arguments[0](false));")


def test_a_script_that_is_not_ours_is_not_run(page: Path, window: Any) -> None:
    text = page.read_text(encoding="utf-8")
    page.write_text(text.replace("</main>", "<script>document.title = 'taken'</script></main>"), encoding="utf-8")
    window.get(address(page))
    assert window.title != "taken"
    assert any("Content Security Policy" in line for line in complaints(window))


def test_classes_are_chosen_by_mouse_and_by_keyboard(page: Path, window: Any) -> None:
    total = window.execute_script(SEEN)
    assert total > 3
    of_disc = len(window.find_elements("css selector", ".card[data-classes~='1']"))
    assert 0 < of_disc < total
    label = window.find_element("css selector", ".classes label:nth-of-type(2)")
    window.execute_script("arguments[0].scrollIntoView({block: 'center'})", label)
    label.click()
    assert window.execute_script(SEEN) == of_disc
    assert window.find_element("css selector", "#filters output").text == f"{of_disc} of {total} images"
    press(window, "\ue014")  # the arrow to the right, as in any group of radio buttons
    assert window.execute_script("return document.querySelector('[name=class]:checked').value") == "2"
    press(window, "[", "[")
    assert window.execute_script(SEEN) == total
    press(window, "]")
    assert window.execute_script(SEEN) == of_disc
    press(window, "0")
    assert window.execute_script(SEEN) == total


def test_the_gallery_is_put_in_order(page: Path, window: Any) -> None:
    scores = "return [...document.querySelectorAll('.card')].map((card) => card.dataset.score).filter(Boolean)"
    names = "return [...document.querySelectorAll('.card')].map((card) => card.dataset.name)"
    worst_first = [float(score) for score in window.execute_script(scores)]
    assert worst_first == sorted(worst_first)
    window.find_element("css selector", "[name=order] [value=best]").click()
    assert [float(score) for score in window.execute_script(scores)] == sorted(worst_first, reverse=True)
    window.find_element("css selector", "[name=order] [value=doubt]").click()
    doubts = [float(doubt) for doubt in window.execute_script(scores.replace("score", "doubt"))]
    assert doubts == sorted(doubts, reverse=True)
    window.find_element("css selector", "[name=order] [value=name]").click()
    assert window.execute_script(names) == sorted(window.execute_script(names))
    window.find_element("css selector", "[name=split] option:nth-child(2)").click()
    assert 0 < window.execute_script(SEEN) < len(worst_first)


def test_keys_walk_through_the_images(page: Path, window: Any) -> None:
    at = "return [...document.querySelectorAll('.card')].indexOf(document.activeElement.closest('.card'))"
    press(window, "j")
    assert window.execute_script(at) == 0
    press(window, "j", "j", "k")
    assert window.execute_script(at) == 1


def test_another_view_is_shown_beside_the_photographs(page: Path, window: Any) -> None:
    shown = "return [...document.querySelectorAll('.card .tile:not([hidden])')].map((tile) => tile.dataset.title)"
    before = window.execute_script(shown)
    assert "pseudo mask" in before
    window.find_element("xpath", "//select[@name='view']/option[.='ground truth']").click()
    after = window.execute_script(shown)
    assert len(after) == len(before)
    assert set(after) == {"photograph", "ground truth"}


def enlarged(window: Any) -> tuple[str, str, int]:
    """What the dialog shows: name of the image, view, and width of the image, once it is drawn."""
    return tuple(
        window.execute_async_script("""
        const [done] = arguments, viewer = document.getElementById("viewer");
        const view = () => viewer.querySelector("[aria-pressed=true]").textContent;
        (function wait() {
          const [name, image] = [viewer.querySelector("h3").textContent, viewer.querySelector(".stage img")];
          if (image?.alt !== `${view()}, ${name}` || !image.complete) return setTimeout(wait, 10);
          done([name, view(), image.naturalWidth]);
        })();
    """)
    )


def test_a_click_enlarges_an_image_and_arrows_go_on(page: Path, window: Any) -> None:
    window.find_element("xpath", "//select[@name='split']/option[.='train']").click()
    seen = "[...document.querySelectorAll('.card:not([hidden])')]"
    names = window.execute_script(f"return {seen}.map((card) => card.dataset.name)")
    window.execute_script(f"{seen}[0].querySelector('.open').click()")
    assert enlarged(window)[:2] == (names[0], "pseudo mask")
    assert enlarged(window)[2] > 0
    press(window, "\ue014")  # to the right
    assert enlarged(window)[0] == names[1]
    press(window, "\ue012", "\ue013")  # back, and one view up
    assert enlarged(window)[:1] == (names[0],)
    assert enlarged(window)[1].startswith("map of ")
    window.find_element("css selector", "[data-do=next]").click()
    assert enlarged(window)[0] == names[1]
    press(window, "\ue00c")  # Escape
    assert not window.find_element("id", "viewer").is_displayed()
    assert window.execute_script("return document.activeElement.closest('.card').dataset.name") == names[1]


def test_an_enlarged_image_is_opened_in_a_tab_and_saved(page: Path, window: Any) -> None:
    window.find_element("css selector", ".card .open").click()
    name, view, _ = enlarged(window)
    save = window.find_element("css selector", "[data-do=save]")
    assert save.get_attribute("download") == f"{name} {view}.png"
    assert save.get_attribute("href").startswith("blob:")
    first = window.current_window_handle
    window.find_element("css selector", "[data-do=tab]").click()
    (other,) = set(window.window_handles) - {first}
    window.switch_to.window(other)
    assert window.execute_script("return document.images[0].naturalWidth") > 0
    window.close()
    window.switch_to.window(first)
    fetched(window), complaints(window)


def test_dark_and_light(page: Path, window: Any) -> None:
    paper = "return getComputedStyle(document.body).backgroundColor"
    light = window.execute_script(paper)
    press(window, "t")
    dark = window.execute_script(paper)
    assert dark != light
    window.find_element("id", "theme").click()
    assert window.execute_script(paper) == light


def test_a_spot_of_the_image_answers_where_it_looked(page: Path, window: Any) -> None:
    drawn = (
        "const canvas = document.querySelector('.attended canvas'); if (canvas.hidden) return null;"
        "return [...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data].join()"
    )
    frame = window.find_element("css selector", ".ask")
    window.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", frame)
    assert window.execute_script(drawn) is None
    window.execute_script("arguments[0].focus()", frame)
    press(window, "\ue014")
    first = window.execute_script(drawn)
    assert first is not None
    assert len(set(first.split(","))) > 3  # shades of light
    press(window, "\ue015", "\ue015", "\ue015")
    assert window.execute_script(drawn) != first
    press(window, "\ue00c")
    assert window.execute_script(drawn) is None


def test_a_narrow_window_and_paper_have_room_for_it(page: Path, window: Any) -> None:
    window.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    )
    assert window.execute_script("return document.documentElement.scrollWidth") <= 390
    window.find_element("css selector", ".card .open").click()
    enlarged(window)
    assert window.execute_script("return document.getElementById('viewer').scrollWidth") <= 390
    for part in window.find_elements("css selector", "#viewer :is(button, a, img)"):
        assert part.rect["x"] >= 0
        assert part.rect["x"] + part.rect["width"] <= 390
    press(window, "\ue00c")
    window.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    window.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert not window.find_element("css selector", ".filters").is_displayed()
    assert window.find_element("css selector", ".card").is_displayed()
    window.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_two_runs_side_by_side(call, chain, window: Any, tmp_path: Path) -> None:
    other = call("pseudo", chain.made["cams"].path, "--background", "constant", "-q", cwd=chain.folder)
    for made in (other.lines[0], chain.made["pseudo"].id):
        assert call("eval", made, "-q", "--workers", "0", cwd=chain.folder).code == 0
    target = tmp_path / "two.html"
    answer = call("report", "--compare", chain.made["pseudo"].id, other.lines[0], "--output", target, cwd=chain.folder)
    assert answer.code == 0, answer.err
    fetched(window), complaints(window)
    window.get(address(target))
    assert fetched(window) == [address(target)]
    assert not complaints(window)
    text = " ".join(window.find_element("css selector", "#settings").text.split())
    assert re.search(r"pseudo background saliency constant", text), text
    assert window.execute_script(SEEN) > 0
