"""What a Python app imports is installed, where it is certain; what needs no port is refused."""

import msgspec
import pytest

from moorage.errors import PlanNotFound, UploadInvalid
from moorage.planning.plan import Plan, Settings, Stack
from moorage.planning.planner import make_plan
from moorage.planning.python import imports
from moorage.planning.reading.folder import Folder
from support.engines.memory_tree import MemoryTree
from support.engines.toolboxes import TOOLBOX

FLASK = "from flask import Flask\napp = Flask(__name__)\n"
FASTAPI = "from fastapi import FastAPI\napp = FastAPI()\n"
NICEGUI = "from nicegui import ui\n\nui.label('hello')\nui.run(port=8080)\n"


def plan(files: dict[str, str], **settings: str) -> Plan:
    return make_plan(MemoryTree(files), msgspec.convert(settings, Settings), TOOLBOX)


def installed(files: dict[str, str], **settings: str) -> set[str]:
    """The packages that the install names, besides those of a file."""
    install = plan(files, **settings).install or ""
    return set(install.partition("--compile-bytecode ")[2].split()) - {"-r", "requirements.txt"}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"main.py": NICEGUI}, {"nicegui"}),
        ({"app.py": f"import requests\n{FLASK}"}, {"flask", "gunicorn", "requests"}),
        (
            {"main.py": f"import os, json\nimport httpx, yaml as y\n{FASTAPI}"},
            {"fastapi", "uvicorn", "httpx", "pyyaml"},
        ),
        (
            {"main.py": f"from PIL import Image\nimport cv2\nimport numpy as np\n{FASTAPI}"},
            {"fastapi", "uvicorn", "pillow", "opencv-python-headless", "numpy"},
        ),
        (
            {"app.py": "import streamlit as st\nimport plotly.express as px\nst.title('a')\n"},
            {"streamlit", "plotly"},
        ),
        (
            {"server.py": "from aiohttp import web\nimport jwt\nweb.run_app(web.Application())\n"},
            {"aiohttp", "pyjwt"},
        ),
        (
            {
                "main.py": "from services.mail import send\n" + FASTAPI,
                "services/mail.py": "from dotenv import load_dotenv\nfrom .html import soup\n",
                "services/html.py": "from bs4 import BeautifulSoup as soup\n",
                "scripts/unused.py": "import pandas\n",
            },
            {"fastapi", "uvicorn", "python-dotenv", "beautifulsoup4"},
        ),
        (
            {
                "manage.py": "'DJANGO_SETTINGS_MODULE', 'shop.settings'",
                "shop/wsgi.py": "from django.core.wsgi import get_wsgi_application\n",
                "shop/settings.py": "import environ\nINSTALLED_APPS = [\n"
                "    'django.contrib.admin',\n"
                "    'rest_framework',\n    'blog',\n    'corsheaders',\n    'unheard_of',\n]\n"
                "MIDDLEWARE = [\n    'whitenoise.middleware.WhiteNoiseMiddleware',\n]\n",
                "blog/__init__.py": "",
                "blog/models.py": "from django.db import models\nfrom taggit.managers import X\n",
            },
            {
                *("django", "gunicorn", "djangorestframework", "django-cors-headers"),
                *("whitenoise", "django-environ", "django-taggit"),
            },
        ),
        (
            {"src/main.py": f"import google.generativeai as genai\n{FASTAPI}"},
            {"fastapi", "uvicorn", "google-generativeai"},
        ),
    ],
)
def test_what_is_imported_is_installed_where_nothing_is_listed(
    files: dict[str, str], expected: set[str]
) -> None:
    assert installed(files) == expected


@pytest.mark.parametrize("package", ["example", "docs", "test", "shop", "build"])
@pytest.mark.parametrize("below", ["", "site/"])
@pytest.mark.parametrize("procfile", ["", "web: gunicorn %s.wsgi --log-file -"])
def test_what_django_names_is_installed_whatever_its_package_is_called(
    package: str, below: str, procfile: str
) -> None:
    files = {
        f"{below}manage.py": f"'DJANGO_SETTINGS_MODULE', '{package}.settings'",
        f"{below}{package}/wsgi.py": "",
        f"{below}{package}/settings.py": "INSTALLED_APPS = [\n    'rest_framework',\n]\n",
        f"{below}{package}/urls.py": "from decouple import config\n",
        "requirements.txt": "django\ngunicorn\n",
    }
    if procfile:
        files["Procfile"] = procfile % package
    assert installed(files) == {"djangorestframework", "python-decouple"}


@pytest.mark.parametrize(
    ("line", "package"),
    [
        ("from fastapi import Depends, Form", "python-multipart"),
        ("from fastapi import (\n    FastAPI,\n    UploadFile,\n)", "python-multipart"),
        ("from fastapi.templating import Jinja2Templates", "jinja2"),
        ("from pydantic import BaseModel, EmailStr", "email-validator"),
        ("from starlette.middleware.sessions import SessionMiddleware", "itsdangerous"),
        ("from sqlalchemy.ext.asyncio import create_async_engine", "greenlet"),
        ("from passlib.context import CryptContext", "bcrypt==4.0.1"),
    ],
)
def test_what_a_framework_needs_for_a_name_is_installed_too(line: str, package: str) -> None:
    assert package in installed({"main.py": f"{line}\n{FASTAPI}"})
    listed = {
        "requirements.txt": "fastapi\nuvicorn\nsqlalchemy\npasslib\n",
        "main.py": f"{line}\n{FASTAPI}",
    }
    assert installed(listed) == {package}


@pytest.mark.parametrize(
    "text",
    [
        "try:\n    import numpy\nexcept ImportError:\n    numpy = None\n",
        "try:\n    import tomllib\nexcept ModuleNotFoundError:\n    import toml\n",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import numpy\n",
        "import sys\nif sys.platform == 'win32':\n    import numpy\n",
        "import contextlib\nwith contextlib.suppress(ImportError):\n    import numpy\n",
        '"""\nimport numpy\n"""\n',
        "from  import numpy\n",
        "# import numpy\n",
        "text = '''\nfrom numpy import x\n'''\n",
    ],
)
def test_import_that_may_fail_is_not_installed(text: str) -> None:
    assert installed({"app.py": f"{text}{FLASK}"}) == {"flask", "gunicorn"}


@pytest.mark.parametrize(
    ("requirements", "source", "expected"),
    [
        ("flask\ngunicorn\n", "import requests\n", {"requests"}),
        ("flask\ngunicorn\n", "import jinja2, werkzeug\n", set()),  # Flask brings them
        ("flask\ngunicorn\nopencv-python\n", "import cv2\n", set()),
        ("flask\ngunicorn\npsycopg2\n", "import psycopg2\n", set()),
        ("flask\ngunicorn\ndjango-redis\n", "import redis\n", set()),
        ("flask\ngunicorn\ntypes-requests\n", "import requests\n", {"requests"}),
        ("flask\ngunicorn\n", "import unheard_of\n", set()),  # some package may bring it
        ("flask\ngunicorn\n", "def later():\n    import torch\n", set()),  # left out on purpose
        ("flask\ngunicorn\n", "def f():\n    import six\nimport six\n", {"six"}),
        ("flask\ngunicorn\njsonschema\n", "import schema\n", {"schema"}),
        ("flask\ngunicorn\ngit+https://h/a/whisper.git@v1\n", "import whisper\n", set()),
        ("flask\ngunicorn\nhttps://h/torch-2.1+cpu-cp311-x.whl\n", "import torch\n", set()),
        ("flask\ngunicorn\n-e git+https://h/x#egg=stripe\n", "import stripe\n", set()),
        ("flask\ngunicorn\n", "if __name__ == '__main__':\n    import waitress\n", {"waitress"}),
    ],
)
def test_what_requirements_miss_is_installed_where_it_is_certain(
    requirements: str, source: str, expected: set[str]
) -> None:
    files = {"requirements.txt": requirements, "app.py": f"{source}{FLASK}"}
    assert installed(files) == expected
    told = [said for said in plan(files).because if "imported" in said]
    assert bool(told) == bool(expected)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (
            {
                "main.py": "# /// script\n# requires-python = '>=3.11'\n# dependencies = [\n"
                '#   "flask>=3", # web\n#   "my-own-thing[a]",\n# ]\n# ///\n'
                f"import my_own_thing\n{FLASK}"
            },
            "'flask>=3' 'my-own-thing[a]' gunicorn",
        ),
        (
            {
                "setup.py": "setup(\n    install_requires=['flask', \"six==1.16\"],\n)\n",
                "app.py": f"import mine\n{FLASK}",
            },
            "flask six==1.16 gunicorn",
        ),
        (
            {"setup.py": "setup(install_requires=read('x'))\n", "app.py": FLASK},
            "flask gunicorn",
        ),
        ({"main.py": f"# /// script\n# dependencies = []\n# ///\n{FLASK}"}, "flask gunicorn"),
    ],
)
def test_what_a_file_of_python_lists_is_installed(files: dict[str, str], expected: str) -> None:
    assert (plan(files).install or "").endswith(f" --compile-bytecode {expected}")


def test_what_a_lock_file_has_is_not_installed_again() -> None:
    lock = '[[package]]\nname = "requests"\nversion = "2.32.0"\n'
    project = "[project]\nname = 'a'\nversion = '1'\ndependencies = ['flask', 'gunicorn']\n"
    files = {"pyproject.toml": project, "app.py": f"import requests\n{FLASK}"}
    assert "requests" in (plan(files).install or "")
    assert "requests" not in (plan({**files, "uv.lock": lock}).install or "")


@pytest.mark.parametrize(
    "files",
    [
        {"main.py": f"import unheard_of\n{FASTAPI}"},
        {"app.py": f"from unheard_of.x import y\n{FLASK}"},
        {"server.py": "import unheard_of\n"},
        {"main.py": f"import helper\n{FASTAPI}", "helper.py": "import unheard_of as u\n"},
        {"bot.py": "if __name__ == '__main__':\n    import unheard_of\n"},
        {"app.py": "import streamlit as st\nimport unheard_of\nst.title('a')\n"},
    ],
)
def test_import_of_an_unknown_package_is_refused_before_payment_where_nothing_is_listed(
    files: dict[str, str],
) -> None:
    with pytest.raises(
        UploadInvalid, match=r"imports 'unheard_of'.*requirements\.txt .*unheard-of"
    ):
        plan(files)
    assert "unheard_of" not in (plan({**files, "requirements.txt": "six\n"}).install or "")
    assert plan(files, installCommand="pip install -e .").install


@pytest.mark.parametrize(
    "files",
    [
        {"main.py": f"import db\n{FASTAPI}", "db.py": ""},
        {"main.py": f"from app import db\n{FASTAPI}", "app/db.py": ""},
        {"main.py": f"from . import db\n{FASTAPI}", "db.py": "", "__init__.py": ""},
        {"main.py": f"import tomllib, annotationlib, distutils\n{FASTAPI}"},
        {"main.py": f"import shared.x\n{FASTAPI}", "lib/shared/x.py": ""},
        {"main.py": f"import native\n{FASTAPI}", "native.cpython-311-x86_64-linux-gnu.so": ""},
        {"src/shop/main.py": f"from shop import db\n{FASTAPI}", "src/shop/db.py": ""},
    ],
)
def test_modules_of_the_upload_and_of_the_standard_library_are_there(files: dict[str, str]) -> None:
    assert installed(files) == {"fastapi", "uvicorn"}


def test_file_named_as_a_package_in_a_directory_is_not_that_package() -> None:
    files = {"main.py": f"from services import stripe\n{FASTAPI}", "services/__init__.py": ""}
    files["services/stripe.py"] = "import stripe\n"
    assert installed(files) == {"fastapi", "uvicorn", "stripe"}


def test_given_command_is_followed_to_the_file_it_runs() -> None:
    files = {"web/serve.py": "import tornado\nimport helper\n", "web/helper.py": "import redis\n"}
    assert installed(files, runCommand="python web/serve.py") == {"tornado", "redis"}
    app = {"shop/web.py": f"import requests\n{FLASK}", "shop/__init__.py": "", "notes.py": ""}
    assert installed(app, runCommand="gunicorn shop.web:app") == {"gunicorn", "flask", "requests"}


def test_reading_is_bounded() -> None:
    text = "".join(f"import m{index:03}\n" for index in range(500))
    for padding in (0, 50_000):
        files = {f"m{index:03}.py": text + "#" * padding for index in range(500)}
        tree = MemoryTree({**files, "main.py": text})
        found = imports.Imports(Folder(tree), ["main.py"], root="")
        assert not found.is_whole
        assert len(tree.files_read) <= imports.FILES_LIMIT
        assert tree.bytes_read <= imports.TOTAL_LIMIT + imports.FILE_LIMIT


@pytest.mark.parametrize("text", ["from" + " " * 20_000 + "x", "from " + "." * 60_000 + "x"])
def test_import_made_to_be_slow_is_read_in_linear_time(text: str) -> None:
    # Nothing is measured: with two runs of spaces that may share them this takes minutes.
    installed({"app.py": f"from flask import Flask\napp = Flask(__name__)\n{text}\n"})


def test_imports_are_bounded() -> None:
    text = "".join(
        f"import {', '.join(f'a{line}b{n}' for n in range(300))}\n" for line in range(40)
    )
    found = imports.Imports(Folder(MemoryTree({"main.py": text})), ["main.py"], root="")
    assert not found.is_whole
    assert len(found.found) == imports.IMPORTS_LIMIT


DISCORD = "import discord\nclient = discord.Client()\nclient.run('x')\n"
TELEGRAM = (
    "from telegram.ext import Application\napp = Application.builder().build()\napp.run_polling()\n"
)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"bot.py": DISCORD, "requirements.txt": "discord.py\n"}, "Discord bot"),
        ({"bot.py": DISCORD}, "Discord bot"),
        ({"main.py": TELEGRAM, "requirements.txt": "python-telegram-bot\n"}, "Telegram bot"),
        ({"main.py": "import telebot\ntelebot.TeleBot('x').infinity_polling()\n"}, "Telegram bot"),
        ({"app.py": "from aiogram import Bot, Dispatcher\n"}, "Telegram bot"),
        ({"main.py": "from tasks import app\n", "tasks.py": "import celery\n"}, "Celery worker"),
        ({"main.py": "import tkinter as tk\ntk.Tk().mainloop()\n"}, "desktop program"),
        ({"main.py": "import schedule\nschedule.run_pending()\n"}, "scheduled job"),
        ({"app.py": "from slack_bolt.adapter.socket_mode import X\n"}, "Slack bot"),
        ({"game.py": "import pygame\npygame.init()\n"}, "desktop program"),
        ({"Procfile": "web: python bot.py\n", "bot.py": DISCORD}, "Discord bot"),
        (
            {"Procfile": "web: celery -A tasks worker\n", "tasks.py": "", "requirements.txt": ""},
            "celery",
        ),
        ({"Procfile": "web: rq worker high\n", "requirements.txt": "rq\n"}, "rq worker"),
        ({"tasks.py": "from celery import Celery\n", "requirements.txt": "celery\n"}, "Celery"),
        ({"bot.py": DISCORD, "index.html": "<p>"}, "Discord bot"),
    ],
)
def test_what_listens_on_no_port_is_refused_before_payment(
    files: dict[str, str], said: str
) -> None:
    with pytest.raises(PlanNotFound, match=said) as refused:
        plan(files)
    assert "PORT" in str(refused.value)


@pytest.mark.parametrize(
    "files",
    [
        {"bot.py": f"{DISCORD}from keep_alive import go\n", "keep_alive.py": FLASK},
        {"bot.py": f"import os\nfrom aiohttp import web\n{DISCORD}"},
        {"main.py": TELEGRAM.replace("run_polling()", "run_webhook(port=80)")},
        {"main.py": f"import discord\n{FASTAPI}"},
        {"bot.py": DISCORD, "web.py": "from http.server import HTTPServer\n"},
        {"bot.py": f"import os\nport = os.environ['PORT']\n{DISCORD}"},
        {"app.py": f"from celery import Celery\n{FLASK}"},
        {"main.py": "print(1)\n"},
    ],
)
def test_bot_that_also_listens_is_taken(files: dict[str, str]) -> None:
    assert plan(files).start
    both = {**files, "Procfile": "web: celery -A a worker & gunicorn a:app\n"}
    assert plan(both).start


@pytest.mark.parametrize(
    "files",
    [
        {"build.py": "import json, pathlib\n"},
        {"main.py": "from pyscript import document\n", "style.css": ""},
        {"main.py": "from js import console\nimport math\n"},
        {"run.py": "import csv\nfor row in csv.reader(open('a.csv')):\n    print(row)\n"},
        {"src/main.py": "print(1)\n"},
    ],
)
def test_script_beside_a_page_that_serves_nothing_is_no_app(files: dict[str, str]) -> None:
    made = plan({**files, "index.html": "<p>"})
    assert made.stack is Stack.STATIC


@pytest.mark.parametrize(
    "files",
    [
        {"main.py": f"from keep_alive import go\n{DISCORD}", "keep_alive.py": FLASK},
        {"bot.py": f"{TELEGRAM}import web\n", "web.py": FASTAPI},
        {"run.py": "import chat\n", "chat.py": "import telebot, web\n", "web.py": FLASK},
        {"main.py": f"import web.app\n{DISCORD}", "web/app.py": FLASK},
        {"start.py": "import tg, site_app\n", "tg.py": "import aiogram\n", "site_app.py": FASTAPI},
    ],
)
def test_bot_that_runs_an_app_object_beside_its_work_is_started_whole(
    files: dict[str, str],
) -> None:
    script = next(iter(files))
    assert plan(files).start == f"exec .venv/bin/python {script}"
    alone = {name: text for name, text in files.items() if name != script}
    assert "uvicorn" in plan(alone).start or "gunicorn" in plan(alone).start


def test_tools_with_requirements_beside_a_page_leave_the_page_the_app() -> None:
    tools = {"gui.py": "import tkinter\n", "other.py": "", "requirements.txt": "six\n"}
    assert plan({**tools, "index.html": "<p>"}).stack is Stack.STATIC


def test_script_beside_a_page_is_the_app_if_python_is_asked_for() -> None:
    files = {"build.py": "import json\n", "index.html": "<p>"}
    assert plan(files, runtime="python").stack is Stack.PYTHON


@pytest.mark.parametrize(
    "files",
    [
        {"server.py": "from http.server import HTTPServer\n"},
        {"server.py": "from http import HTTPStatus, server\n"},
        {"main.py": "import socket\ns = socket.socket()\ns.bind(('', 80))\n"},
        {"app.py": FLASK},
        {"main.py": NICEGUI},
        {"main.py": "import asyncio\nasyncio.start_server(print, port=80)\n"},
    ],
)
def test_server_beside_a_page_is_the_app(files: dict[str, str]) -> None:
    assert plan({**files, "index.html": "<p>"}).stack is Stack.PYTHON


def test_reflex_is_refused_by_name() -> None:
    files = {"rxconfig.py": "", "requirements.txt": "reflex\n", "shop/shop.py": ""}
    with pytest.raises(PlanNotFound, match=r"rxconfig\.py is Reflex's.*Dockerfile"):
        plan(files)
    assert plan(files, runCommand="reflex run --single-port").start


OLD = (
    "from mcp.server.fastmcp import FastMCP\nFastMCP('a', host='0.0.0.0').run('streamable-http')\n"
)


@pytest.mark.parametrize(
    ("listed", "text", "added"),
    [
        ("mcp", OLD, " 'mcp<2'"),
        ("mcp>=1.8", OLD, " 'mcp<2'"),
        ("mcp==1.9.0", OLD, ""),
        ("mcp>=1.8,<1.10", OLD, ""),
        ("flask", f"from flask import escape\n{FLASK}", " 'flask<3'"),
        ("flask", FLASK, ""),
        ("pydantic\nflask", f"from pydantic import BaseSettings\n{FLASK}", " 'pydantic<2'"),
    ],
)
def test_version_that_still_has_what_is_imported_is_installed(
    listed: str, text: str, added: str
) -> None:
    install = plan({"app.py": text, "requirements.txt": listed}).install or ""
    assert ("<" in install) is bool(added)
    assert install.endswith(added)
