"""The page: wiring in Python, the tag editor's html, css and js in files of their own."""
