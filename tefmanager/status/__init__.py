"""What the manager shows over HTTP: health, metrics, JSON and the page. Decides nothing."""
