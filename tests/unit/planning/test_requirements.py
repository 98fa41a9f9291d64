import pytest

from moorage.errors import UploadInvalid
from moorage.planning.python.requirements import Requirements, project_document, requirements
from moorage.planning.reading.folder import Folder
from support.engines.memory_tree import MemoryTree


def read(files: dict[str, str | bytes]) -> Requirements:
    folder = Folder(MemoryTree(files))
    return requirements(folder, project_document(folder))


def names(text: str | bytes) -> set[str]:
    return set(read({"requirements.txt": text}).names)


def test_names_are_normalised_as_the_installer_does() -> None:
    text = "Flask_Login==1\nzope.interface\nA--b ~= 1.0\nfoo[x] >= 1 ; python_version < '4'\n"
    assert names(text) == {"flask-login", "zope-interface", "a-b", "foo"}


@pytest.mark.parametrize(
    "line",
    [
        "# comment",
        "",
        "--index-url=x",
        "-e .",
        "./local",
        "git+ssh://host/x.git",
        "pkg.whl",
        "    --hash=sha256:00",
    ],
)
def test_lines_for_the_installer_alone_name_nothing(line: str) -> None:
    assert names(line) == set()


@pytest.mark.parametrize(
    "line",
    ["a @ file", "a (>=1)", "a==1 \\", "a==1 --hash=sha256:00", "a  # why", "a<2,>1", "a===1"],
)
def test_what_a_requirement_may_look_like(line: str) -> None:
    assert names(line) == {"a"}


@pytest.mark.parametrize("line", ["a=1", "a b", "?", "a[", "@x", "é"])
def test_line_the_installer_would_refuse_is_refused_with_its_number(line: str) -> None:
    with pytest.raises(UploadInvalid, match="line 2") as refused:
        names(f"ok\n{line}\n")
    assert refused.value.path == "requirements.txt"


@pytest.mark.parametrize("data", ["flask\n".encode("utf-16"), b"\xff", b"a" * 1_048_577])
def test_file_that_is_no_short_text_is_refused(data: bytes) -> None:
    with pytest.raises(UploadInvalid) as refused:
        names(data)
    assert refused.value.path == "requirements.txt"


def test_byte_order_mark_is_no_part_of_a_name() -> None:
    assert names(b"\xef\xbb\xbfflask\r\n") == {"flask"}


def test_includes_are_followed_once_and_from_their_own_directory() -> None:
    files: dict[str, str | bytes] = {
        "requirements.txt": "-r reqs/a.txt\nx",
        "reqs/a.txt": "--requirement=b.txt\ny",
        "reqs/b.txt": "-r ../requirements.txt\nz",
    }
    assert read(files).names == {"x", "y", "z"}


@pytest.mark.parametrize("include", ["-r gone.txt", "-c /etc/passwd", "-r ../../x"])
def test_include_of_no_file_of_the_upload_is_refused(include: str) -> None:
    with pytest.raises(UploadInvalid, match="not in the upload"):
        names(include)


def test_extra_that_brings_a_server_counts_as_it() -> None:
    assert names("fastapi[all,x]") == {"fastapi", "uvicorn", "websockets", "jinja2"}
    assert names("fastapi[x]") == {"fastapi"}


def test_lines_are_bounded() -> None:
    with pytest.raises(UploadInvalid, match="20,000"):
        names("a\n" * 20_001)


@pytest.mark.parametrize(
    "text",
    [
        "[project",
        "project = 1",
        "[project]\ndependencies = 'a'",
        "[project]\ndependencies = [1]",
        "[project]\ndependencies = ['?']",
        "a = " + "[" * 20_000,
        "a" + ".a" * 30_000 + " = 1",
        "a = " + "1" * 5_000,
        "#" * 65_537,
    ],
)
def test_pyproject_that_cannot_be_used_is_refused(text: str) -> None:
    with pytest.raises(UploadInvalid) as refused:
        read({"pyproject.toml": text})
    assert refused.value.path == "pyproject.toml"


def test_pyproject_without_project_dependencies_needs_nothing() -> None:
    assert read({"pyproject.toml": "[tool.ruff]\n"}) == Requirements(None, frozenset())


@pytest.mark.parametrize(
    ("files", "reads", "needs"),
    [
        ({"Pipfile": '[packages]\nFlask = "*"\n[dev-packages]\nx = "*"'}, "Pipfile", {"flask"}),
        ({"Pipfile": "[packages]", "Pipfile.lock": "{}"}, "Pipfile.lock", set()),
        (
            {"pyproject.toml": '[tool.poetry.dependencies]\npython = "^3.11"\nFlask = "^3"'},
            "pyproject.toml",
            {"flask"},
        ),
        ({"pyproject.toml": "[project]", "uv.lock": ""}, "uv.lock", set()),
        (
            {"pyproject.toml": "[project]\ndependencies = ['a']", "pdm.lock": ""},
            "pdm.lock",
            {"a"},
        ),
    ],
)
def test_other_tools_files_are_read(files: dict[str, str], reads: str, needs: set[str]) -> None:
    found = read({**files})
    assert (found.file, set(found.names)) == (reads, needs)


@pytest.mark.parametrize("line", ["-e .", "./wheel.whl", ".", "a @ file:b", "--editable ./lib"])
def test_what_installs_files_of_the_upload_is_known(line: str) -> None:
    assert read({"requirements.txt": f"flask\n{line}"}).is_local


@pytest.mark.parametrize("line", ["-e git+https://h/x", "flask", "a @ https://h/a.whl", "-i x"])
def test_what_comes_from_elsewhere_is_not_local(line: str) -> None:
    assert not read({"requirements.txt": line}).is_local


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("sqlite3", "'sqlite3' is a part of Python"),
        ("json==2.0.9", "remove it"),
        ("smtplib", "remove it"),
        ("sklearn", "its package is scikit-learn"),
        ("PIL>=9", "its package is pillow"),
        ("yaml", "its package is pyyaml"),
        ("cv2", "its package is opencv-python-headless"),
    ],
)
def test_name_that_no_package_has_is_refused_with_what_to_do(line: str, said: str) -> None:
    with pytest.raises(UploadInvalid, match=said) as refused:
        names(f"flask\n{line}\n")
    assert "line 2" in str(refused.value)
    with pytest.raises(UploadInvalid, match=said):
        read({"pyproject.toml": f"[project]\ndependencies = ['flask', '{line}']\n"})


def test_package_that_is_also_a_part_of_python_is_a_requirement() -> None:
    assert names("dataclasses\ntyping\nimportlib-metadata\n") == {
        *("dataclasses", "typing", "importlib-metadata"),
    }
