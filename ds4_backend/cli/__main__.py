"""`python -m ds4_backend.cli`, for where the script is not on the PATH."""

from __future__ import annotations

from ds4_backend.cli import main

if __name__ == "__main__":
    main(prog_name="ds4-backend")
