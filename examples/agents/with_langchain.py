"""An agent of LangChain that puts a directory online, with Moorage's library as its tool.

    pip install moorage-client langchain langchain-openai
    MOORAGE_GATEWAY=https://… MOORAGE_PRIVATE_KEY=0x… OPENAI_API_KEY=… \
        python with_langchain.py "Put ./shop online as my-shop."
"""

import os
import sys

from langchain.agents import create_agent
from langchain.tools import tool

from moorage import deploy


@tool
def put_online(directory: str, name: str) -> str:
    """Put the app in a directory online under a name, and return its address. Costs at most $1."""
    return deploy(directory, name=name, max_usd=1).url


agent = create_agent(os.environ.get("MODEL", "openai:gpt-5"), [put_online])
answer = agent.invoke({"messages": [("user", sys.argv[1])]})
print(answer["messages"][-1].text)
