"""The report in a real browser, without a network: plots appear, text fits, nothing else happens."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from figures import report
from tests.report_cases import scripted_run

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = next((path for path in map(shutil.which, NAMES) if path), None)
# of a copy of the page: its title becomes what the browser made of it
PROBE = """<script>
addEventListener("load", () => {
  const page = document.documentElement;
  const widths = [...document.images].map(image => image.naturalWidth);
  const requests = performance.getEntriesByType("resource").filter(r => !r.name.startsWith("data:"));
  document.title = JSON.stringify([document.title, widths, requests.length,
    page.scrollWidth <= page.clientWidth, document.scripts.length]);
});
</script></body>"""


def shown(page, profile, width):
    """The document after everything is loaded."""
    done = subprocess.run(
        [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}",
         "--host-resolver-rules=MAP * ~NOTFOUND", f"--window-size={width},900", "--dump-dom",
         page.as_uri()],
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason=f"needs a browser: none of {', '.join(NAMES)} is there")
@pytest.mark.parametrize("width", [1200, 500])
def test_a_browser_shows_it(width, tmp_path):
    page, _ = report.write(scripted_run(tmp_path), tmp_path / "out")
    probe = tmp_path / "probe.html"
    probe.write_text(page.read_text().replace("</body>", PROBE))
    document = shown(probe, tmp_path / "profile", width)
    title = re.search(r"<title>(.*?)</title>", document)[1]
    # the page's own title, five plots of 3.3 inches at 200 dots, no request, no sideways scrolling,
    # and one script: the probe. The hostile questions would have changed the first and the last
    assert title == '["Run report: uniform, seed 5",[660,660,660,660,660],0,true,1]'
    assert document.count("&lt;script&gt;document.title = 'owned'") == 3
