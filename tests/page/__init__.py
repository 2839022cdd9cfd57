"""The page in a real browser: Debian's headless Chromium, driven by Selenium.

``script/test-page`` runs these; all other tests do without a browser.
"""
