"""What the WebUI shows and calls: panels, tabs, settings, routes and the Script classes."""
