"""What the manager shows over HTTP: health, metrics, JSON, and the page. Nothing of it decides anything."""
