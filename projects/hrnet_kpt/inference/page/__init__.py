"""tools/app.py: a page in the browser that shows what a model finds in images and videos."""
