"""Where data lives, one folder for each place; `installation` turns settings into all of them."""
