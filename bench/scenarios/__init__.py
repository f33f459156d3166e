"""The measurements, one module each, and the site where they take place."""
