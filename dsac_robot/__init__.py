"""Train, ship, guard and improve driving policies for wheeled robots."""

import os

# Before numpy is loaded, in whatever process this is: the matrices here are small, and where threads of OpenBLAS wait
# for a busy core a product takes 5 to 8 ms instead of 0.3.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

__version__ = "0.1.0"
