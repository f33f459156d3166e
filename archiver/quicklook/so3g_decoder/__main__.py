"""Starts the decoder, as a package of its own: g3-recorder may not be installed for this interpreter."""

import sys
from importlib import import_module
from pathlib import Path

# This folder's parent has modules with everyday names, which no other package may find. So the path is searched only
# for this one, and not this folder at all.
_FOLDER = Path(__file__).resolve().parent
sys.path[:] = [it for it in sys.path if Path(it or ".").resolve() != _FOLDER]
sys.path.insert(0, str(_FOLDER.parent))
_decoder = import_module(_FOLDER.name)
sys.path.pop(0)

sys.exit(import_module(f"{_decoder.__name__}.serve").main())
