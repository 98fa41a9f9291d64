"""Every statement that the product has for a database."""

import gc
import importlib
import pkgutil

from moorage import storage
from moorage.storage.database import Statement


def statements() -> list[Statement]:
    """Those of all modules, and those that objects have made for themselves."""
    for module in pkgutil.walk_packages(storage.__path__, f"{storage.__name__}."):
        if ".migrations" not in module.name:
            importlib.import_module(module.name)
    gc.unfreeze()  # what was there when tests were collected is not told otherwise
    found = [each for each in gc.get_objects() if isinstance(each, Statement)]
    gc.freeze()
    return found
