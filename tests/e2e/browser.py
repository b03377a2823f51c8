# SPDX-License-Identifier: Apache-2.0
"""A headless Chromium, driven through Debian's chromedriver by the W3C's WebDriver protocol over HTTP: no library."""
import base64
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile

import harness

CHROMIUM = shutil.which("chromium")
DRIVER = shutil.which("chromedriver")
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the key of an element's id (WebDriver, section 12.1)


def is_there():
    return bool(CHROMIUM and DRIVER)


class Browser:
    """One window. What it asks the network for and what its console says is kept."""

    def __init__(self, width=1100, height=900, has_script=True):
        self.folder = tempfile.mkdtemp(prefix="envelope-chromium-")
        self.port = harness.free_port()
        self.session = None
        self.log = open(os.path.join(self.folder, "driver.log"), "wb")  # noqa: SIM115 - closed in quit
        # A group of its own, so that the browser's processes can be ended with the driver.
        self.driver = subprocess.Popen([DRIVER, f"--port={self.port}"], stdin=subprocess.DEVNULL, stdout=self.log,
                                       stderr=self.log, start_new_session=True,
                                       env={**os.environ, "HOME": self.folder, "TMPDIR": self.folder})
        try:
            harness.wait_until(self.is_listening, 30, "chromedriver")
            self.open_session(width, height, has_script)
        except BaseException:
            self.quit()
            raise

    def is_listening(self):
        try:
            return self.call("GET", "/status")["ready"]
        except OSError:
            return False

    def open_session(self, width, height, has_script):
        options = {
            "binary": CHROMIUM,
            # In a container there is no namespace for a sandbox, and /dev/shm is small; only our own page is shown.
            "args": ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--no-first-run",
                     "--disable-background-networking", "--disable-component-update", "--disable-sync",
                     f"--window-size={width},{height}", f"--user-data-dir={self.folder}/profile"],
            "prefs": {} if has_script else {"profile.managed_default_content_settings.javascript": 2},
        }
        made = self.call("POST", "/session", {"capabilities": {"alwaysMatch": {
            "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}}}})
        self.session = made["sessionId"]

    def quit(self):
        try:
            if self.session:
                self.do("DELETE", "")
        except (OSError, RuntimeError):
            pass
        try:
            os.killpg(self.driver.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.driver.wait()
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    # --- the protocol ---

    def call(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, None if body is None else json.dumps(body),
                               {"Content-Type": "application/json"})
            value = json.loads(connection.getresponse().read())["value"]
        finally:
            connection.close()
        if isinstance(value, dict) and "error" in value:
            raise RuntimeError(f"{method} {path}: {value['error']}: {value['message'][:500]}")
        return value

    def do(self, method, path, body=None):
        return self.call(method, f"/session/{self.session}{path}", body)

    def devtools(self, command, **parameters):
        """Chromium's own protocol (chromedriver's extension)."""
        return self.do("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    # --- what tests want ---

    def open(self, url):
        self.do("POST", "/url", {"url": url})

    def text(self, selector="body"):
        """As it is rendered; None: there is no such element."""
        try:
            found = self.do("POST", "/element", {"using": "css selector", "value": selector})[ELEMENT]
            return self.do("GET", f"/element/{found}/text")
        except RuntimeError as problem:
            if "no such element" in str(problem) or "stale element" in str(problem):
                return None
            raise

    def run(self, script, *arguments):
        return self.do("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def title(self):
        return self.do("GET", "/title")

    def console(self):
        """The lines since the last asking."""
        return [entry["message"] for entry in self.do("POST", "/se/log", {"type": "browser"})]

    def requests(self):
        """The URLs that were asked for since the last asking."""
        events = (json.loads(entry["message"])["message"] for entry in self.do("POST", "/se/log", {"type": "performance"}))
        return [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]

    def dark(self, is_dark):
        self.devtools("Emulation.setEmulatedMedia", features=[
            {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}])

    def size(self, width, height, is_mobile=False):
        self.devtools("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
                      mobile=is_mobile)

    def picture(self):
        """PNG of the window."""
        return base64.b64decode(self.do("GET", "/screenshot"))


class PageTest(harness.E2E):
    """A proxy, and a browser to look at its status page with."""
    needs_proxy = True
    has_script = True

    @classmethod
    def start(cls):
        cls.etcd = cls.env.etcd()
        cls.raw = cls.etcd.client
        cls.kms = cls.env.kms()
        cls.config = cls.env.config(cls.kms.path, identity=True, timeout="1s")
        cls.proxy = cls.env.proxy(cls.etcd, cls.config)
        cls.client = cls.env.client(cls.proxy.target)
        cls.browser = Browser(has_script=cls.has_script)
        cls.addClassCleanup(cls.browser.quit)

    def setUp(self):
        super().setUp()
        self.browser.open("about:blank")  # nothing of another test goes on
        self.browser.console()
        self.browser.requests()

    def url(self, proxy=None):
        return "http://{}:{}/".format(*(proxy or self.proxy).metrics_address)

    def wait_text(self, part, selector="body", timeout=60):
        try:
            harness.wait_until(lambda: part in (self.browser.text(selector) or ""), timeout, part, step=0.1)
        except AssertionError as problem:
            self.fail(f"{problem}: {self.browser.text(selector)}")

    def assertQuiet(self, host):
        """No console error, and nothing was asked of anybody else."""
        self.assertEqual(self.browser.console(), [])
        asked = {url for url in self.browser.requests() if not url.startswith(("chrome:", "data:", "about:"))}
        self.assertTrue(asked)
        self.assertEqual({url for url in asked if not url.startswith(f"http://{host[0]}:{host[1]}/")}, set())


def main():
    """Exit status 77 is CTest's word for skipped."""
    if not is_there():
        print("NOTICE: no chromium with chromedriver, the status page is not looked at", file=sys.stderr)
        sys.exit(77)
    harness.main()
