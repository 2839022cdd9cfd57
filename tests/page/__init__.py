"""Tests of the page in a real browser: Debian's headless Chromium, driven by Selenium.

``script/test-page`` runs these; all other tests need no browser.
"""
