"""One of two gateways on one database, to be paid by authorization without a chain."""

import asyncio
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from moorage.settings import load_settings
from settled_gateway import believe
from support.gateway.members import serve

if __name__ == "__main__":
    believe()
    asyncio.run(serve(load_settings(file=None), Path(sys.argv[1]), stop_apps=bool(sys.argv[2])))
