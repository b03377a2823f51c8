#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The page at / of the metrics listener, in a headless Chromium: does it show the state, follow what happens, and run nothing
but its own script? Exit status 77, which CTest takes for skipped, when there is no chromium with its chromedriver."""
import http.client
import re

import browser
from harness import Code, wait_until

EVIL = "<img src=/x onerror=document.title='owned'><script>document.title='owned'</script>&amp;\\"  # a plugin's words


class Plain(browser.PageTest):
    def raw_page(self, method="GET"):
        connection = http.client.HTTPConnection(*self.proxy.metrics_address, timeout=20)
        connection.request(method, "/")
        answer = connection.getresponse()
        body = answer.read().decode()
        connection.close()
        return answer, body

    def test_head(self):
        """Only its own script and style, by their hashes; nothing is stored; no frame."""
        for method in ("GET", "HEAD"):
            answer, body = self.raw_page(method)
            self.assertEqual(answer.status, 200)
            self.assertEqual(answer.getheader("content-type"), "text/html; charset=utf-8")
            self.assertEqual(answer.getheader("x-content-type-options"), "nosniff")
            self.assertEqual(answer.getheader("cache-control"), "no-store")
            self.assertRegex(answer.getheader("content-security-policy"),
                             r"^default-src 'none'; script-src 'sha256-[\w+/]{43}='; style-src 'sha256-[\w+/]{43}='; "
                             r"img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
                             r"frame-ancestors 'none'$")
            self.assertGreater(int(answer.getheader("content-length")), 5000)
            self.assertEqual(len(body) > 0, method == "GET")

    def test_no_outside_asset(self):
        body = self.raw_page()[1]
        self.assertEqual(re.findall(r"(?:https?:)?//[a-z0-9][^\s\"'<]*", body.replace("http://www.w3.org/2000/svg", "")
                                    .replace(self.etcd.url, "").replace(f"unix://{self.kms.path}", "")), [])
        self.assertEqual(set(re.findall(r"(?:src|href)=\"([^\"]*)\"", body)),
                         {"data:,", "statusz", "metrics", "configz", "readyz?verbose"})

    def test_shows_and_draws(self):
        for i in range(10):
            self.client.put(self.secret(str(i)), b"a value")
        self.client.list(self.secret(""))
        self.assertStatus(Code.INVALID_ARGUMENT, self.client.put, b"", b"x")
        self.browser.open(self.url())
        self.wait_text("All is well", "#verdict h1")
        self.assertTrue(re.fullmatch(r"All is well - .+ \(etcd-envelope\)", self.browser.title()))
        for part in (self.etcd.url, "KMS plugin test (v2)", f"unix://{self.kms.path}"):
            self.wait_text(part, "#health")
        for part in ("configmaps, secrets", "kms v2 test, key id sha256:", "plaintext (identity)"):
            self.wait_text(part, "#protection")
        self.wait_text("Not looked yet", "#coverage")
        self.wait_text("refused: empty_key", "#counts")
        self.wait_text(str(self.config), "#configuration")
        self.wait_text("Requests per second", "#plots")
        for plot in ("calls", "latency", "values"):
            drawn = wait_until(lambda p=plot: self.browser.run(
                f"return [...document.querySelectorAll('#plot-{p} path')].map((p) => p.getAttribute('d'));"), 10, plot)
            self.assertEqual(len(drawn), 2)
            wait_until(lambda p=plot: "L" in "".join(self.browser.run(
                f"return [...document.querySelectorAll('#plot-{p} path')].map((p) => p.getAttribute('d'));"))
                or p == "latency", 20, f"line of {plot}")
            for numbers in drawn:
                self.assertNotRegex(numbers, "NaN|undefined|Infinity|null")
            self.assertRegex(self.browser.run(f"return document.getElementById('plot-{plot}').ariaLabel;"),
                             r"the last 5 minutes\. .+: now .+, at most ")
        self.assertQuiet(self.proxy.metrics_address)

    def test_what_is_read_out(self):
        """Landmark, headings, a live region for the verdict, and a name for each picture."""
        self.browser.open(self.url())
        self.wait_text("Requests per second", "#plots")
        tree = self.browser.devtools("Accessibility.getFullAXTree")["nodes"]
        roles = [(n["role"]["value"], n.get("name", {}).get("value", "")) for n in tree if not n.get("ignored")]
        self.assertEqual([r for r, _ in roles].count("main"), 1)
        self.assertEqual([r for r, _ in roles].count("status"), 1)
        self.assertEqual(len([n for r, n in roles if r == "image" and "the last 5 minutes" in n]), 3)
        for role, name in roles:
            if role in ("region", "image", "heading", "link"):
                self.assertTrue(name, role)
        live = [p["value"]["value"] for n in tree if n.get("role", {}).get("value") == "status"
                for p in n["properties"] if p["name"] == "live"]
        self.assertEqual(live, ["polite"])

    def test_fits_a_phone(self):
        """Nothing is wider than the window, dark or light; the colours differ."""
        self.browser.open(self.url())
        self.wait_text("Requests per second", "#plots")
        papers = set()
        self.addCleanup(self.browser.size, 1100, 900)
        for is_dark in (True, False):
            self.browser.dark(is_dark)
            for width in (320, 390, 768, 1400):
                self.browser.size(width, 800, is_mobile=width < 500)
                self.assertLessEqual(self.browser.run("return document.documentElement.scrollWidth;"), width)
            papers.add(self.browser.run("return getComputedStyle(document.body).backgroundColor;"))
        self.assertEqual(len(papers), 2)

    def test_proxy_goes_and_comes(self):
        """What stands there is said to be old, until it is new again."""
        proxy = self.env.proxy(self.etcd, self.config, name="mortal")
        self.addCleanup(proxy.stop)
        self.browser.open(self.url(proxy))
        self.wait_text("All is well", "#verdict h1")
        self.wait_text("Requests per second", "#plots")
        self.assertEqual(self.browser.text("#lost"), "")
        self.assertEqual(proxy.process.term(), 0)
        self.wait_text("The proxy has not answered since", "#lost")
        self.assertIn("All is well", self.browser.text("#verdict"))
        proxy.start()
        wait_until(lambda: self.browser.text("#lost") == "", 30, "end of the notice")
        self.wait_text("All is well", "#verdict h1")
        # The browser itself says that it got no connection, and nothing else is said.
        self.assertEqual([line for line in self.browser.console() if "net::ERR_" not in line], [])

    def test_words_of_others_stay_text(self):
        """What a plugin says is shown as it is, and runs nothing."""
        self.kms.healthz = EVIL
        self.addCleanup(setattr, self.kms, "healthz", "ok")
        proxy = self.env.proxy(self.etcd, self.config, name="evil", wait=False)
        self.addCleanup(proxy.stop)
        wait_until(lambda: "listening for health" in proxy.process.log(), 15, "listening proxy")
        self.browser.open(self.url(proxy))
        self.wait_text(EVIL, "#verdict code")
        self.wait_text("Requests per second", "#plots")  # so the script has run
        self.assertTrue(self.browser.title().startswith("KMS plugin test is not well - "))
        self.assertEqual(self.browser.run("return document.querySelectorAll('img, script').length;"), 1)
        self.assertQuiet(proxy.metrics_address)


class WithoutScript(browser.PageTest):
    has_script = False

    def test_text_is_whole(self):
        """As much text as a browser that runs the script shows, plots apart."""
        self.browser.open(self.url())
        shown = self.browser.text("main")
        self.assertIn("All is well", shown)
        self.assertNotIn("The last 5 minutes", shown)
        for name in ("verdict", "health", "protection", "coverage", "traffic", "counts", "configuration", "process"):
            self.assertTrue(self.browser.text(f"#{name}"), name)
        other = browser.Browser()
        self.addCleanup(other.quit)
        other.open(self.url())
        wait_until(lambda: other.text("#plots"), 20, "plots")
        for name in ("verdict", "protection", "coverage", "configuration"):
            self.assertEqual(other.text(f"#{name}"), self.browser.text(f"#{name}"))
        self.assertQuiet(self.proxy.metrics_address)


if __name__ == "__main__":
    browser.main()
