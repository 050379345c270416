"""Other tools' logs and tables, read into observations and written from them."""
