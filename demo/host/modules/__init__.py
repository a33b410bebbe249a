"""The part of the WebUI's extension API that the demo speaks. Importable only while the demo host runs."""
