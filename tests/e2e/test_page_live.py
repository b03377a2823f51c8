#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Does an open status page follow a KMS plugin that goes away and comes back? Exit status 77, which CTest
takes for skipped, when there is no chromium with its chromedriver."""
import browser


class Live(browser.PageTest):
    def test_plugin_goes_and_comes(self):
        """Nothing is loaded anew: the script follows."""
        self.browser.open(self.url())
        self.wait_text("All is well", "#verdict h1")
        self.browser.run("window.isTheSame = true;")
        self.kms.stop()  # a good result counts for 20 s
        self.wait_text("Warning: KMS plugin test is not well", "#verdict h1")
        self.wait_text("connect: ", "#verdict code")
        self.wait_text("not well", "#health")
        self.wait_text("Writes go on with the key at hand until ", "#verdict")
        self.wait_text(f"Start the plugin at unix://{self.kms.path}", "#verdict")
        self.assertTrue(self.browser.title().startswith("KMS plugin test is not well - "))
        self.kms.start()
        self.wait_text("All is well", "#verdict h1")
        self.assertEqual(self.browser.text("#verdict code"), None)
        self.assertTrue(self.browser.title().startswith("All is well - "))
        self.assertTrue(self.browser.run("return window.isTheSame;"))
        self.assertQuiet(self.proxy.metrics_address)


if __name__ == "__main__":
    browser.main()
