"""Writes docs/images/report.png: a part of the report of `mcis demo`, as Chromium shows it.

Run it as `python docs/scripts/screenshot.py FOLDER` with the folder of a demo that was run; it needs Chromium, its
driver and Selenium. The page is written into that folder.
"""

import io
import shutil
import subprocess
import sys
from pathlib import Path

from PIL import Image
from selenium import webdriver

TARGET = Path(__file__).parent.parent / "images" / "report.png"
WIDTH, HEIGHT = 1240, 1100
SHOWN = ".attended"


def main(folder: Path) -> None:
    """Make the report, open it, and save a screenshot of its reference gallery."""
    page = folder / "report.html"
    subprocess.run([sys.executable, "-m", "mcis_cli", "report", "--output", page.name], cwd=folder, check=True)
    options = webdriver.ChromeOptions()
    for flag in ("headless=new", "no-sandbox", "hide-scrollbars"):
        options.add_argument(f"--{flag}")
    window = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        window.set_window_size(WIDTH, HEIGHT)
        window.get(page.resolve().as_uri())
        window.execute_script("document.querySelector('.bar').remove()")
        shown = window.find_element("css selector", SHOWN)
        window.execute_script("arguments[0].scrollIntoView({behavior: 'instant'})", shown)
        picture = Image.open(io.BytesIO(shown.screenshot_as_png)).convert("RGB")
    finally:
        window.quit()
    picture.quantize(256, dither=Image.Dither.FLOYDSTEINBERG).save(TARGET, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
