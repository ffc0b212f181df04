"""`python -m hf_ess` is the command `hf-ess`."""

from hf_ess.cli import main

if __name__ == "__main__":
    main()
