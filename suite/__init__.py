"""The compatibility checks. They run inside a cell and import only the standard library,
pytest and the packages under test; `python suite/run.py --help` says how."""
