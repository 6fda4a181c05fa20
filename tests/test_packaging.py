"""The wheel, the import without detectron2, and the set-up script with fake python and df."""

import ast
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from configparser import ConfigParser
from importlib import import_module
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest

from hrnet_kpt.cli.main import main
from hrnet_kpt.cli.parser import EXTRAS, run_tool
from hrnet_kpt.installed_detectron2 import install_command

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "projects" / "hrnet_kpt"
CONFIGS = ROOT / "configs"

# ------------------------------------------------------------------------------------- wheel


def run_python(*arguments, **options):
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, **options)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Path of the wheel, which is built in a copy of the repository."""
    source = tmp_path_factory.mktemp("source")
    copy_sources(source)
    return build(source, "wheel")


def copy_sources(folder):
    """Copy all files of the repository that a build reads."""
    no_caches = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(PACKAGE, folder / "projects" / "hrnet_kpt", ignore=no_caches)
    shutil.copytree(CONFIGS, folder / "configs", ignore=no_caches)
    names = (
        "setup.cfg setup.py pyproject.toml MANIFEST.in README.md LICENSE CHANGELOG.md CITATION.cff"
    )
    for name in names.split():
        shutil.copyfile(ROOT / name, folder / name)  # with the time of the copy


def build(source, kind):
    """Build the "sdist" or the "wheel" of a folder, and return its path."""
    moment = {"SOURCE_DATE_EPOCH": "1764547200"}
    code = f"from setuptools.build_meta import build_{kind}; build_{kind}('dist')"
    done = run_python("-c", code, cwd=source, env={**os.environ, **moment})
    assert done.returncode == 0, done.stderr
    (path,) = (source / "dist").glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return path


@pytest.fixture(scope="module")
def unpacked_sdist(tmp_path_factory):
    """The folder of an unpacked sdist; the sdist itself lies beside it."""
    source = tmp_path_factory.mktemp("source")
    copy_sources(source)
    path = shutil.move(build(source, "sdist"), tmp_path_factory.mktemp("sdist"))
    with tarfile.open(path) as archive:
        archive.extractall(Path(path).parent, filter="data")
    return Path(path.removesuffix(".tar.gz"))


@pytest.fixture(scope="module")
def unpacked(wheel, tmp_path_factory):
    folder = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def python_files(folder, prefix=""):
    return {Path(prefix, path.relative_to(folder)) for path in folder.rglob("*.py")}


def test_wheel_contains_every_module_and_every_config(unpacked):
    on_disk = python_files(PACKAGE, "hrnet_kpt") | python_files(CONFIGS, "hrnet_kpt/configs")
    assert on_disk == python_files(unpacked)
    assert list((unpacked / "hrnet_kpt" / "configs" / "common" / "data").glob("*.py"))


def test_wheel_metadata(wheel, unpacked):
    import hrnet_kpt

    assert wheel.name == f"hrnet_kpt-{hrnet_kpt.__version__}-py3-none-any.whl"
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {hrnet_kpt.__version__}\n" in citation
    (metadata,) = unpacked.glob("*.dist-info/METADATA")
    lines = metadata.read_text(encoding="utf-8").splitlines()
    assert "Requires-Python: >=3.11" in lines
    extras = {line.split(": ")[1] for line in lines if line.startswith("Provides-Extra: ")}
    assert {"export", "openvino", "video", "track", "formats"} <= extras
    required = {line.split(": ")[1] for line in lines if line.startswith("Requires-Dist: ")}
    assert {"torch", "omegaconf<2.4,>=2.2", "pycocotools"} <= required
    (commands,) = unpacked.glob("*.dist-info/entry_points.txt")
    assert f"hrnet-kpt = {main.__module__}:{main.__name__}\n" in commands.read_text()


def test_config_is_found_from_the_wheel_in_another_folder(unpacked, tmp_path):
    code = (
        "import hrnet_kpt\n"
        "from hrnet_kpt.config import load_config\n"
        "print(hrnet_kpt.__file__)\n"
        "print(*load_config('hrnet_w18_kpt.py'))\n"
    )
    done = run_python("-c", code, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(unpacked)})
    assert done.returncode == 0, done.stderr
    origin, nodes = done.stdout.splitlines()[-2:]
    assert Path(origin) == unpacked / "hrnet_kpt" / "__init__.py"
    assert {"model", "dataloader", "optimizer", "lr_multiplier", "train", "data"} <= {
        *nodes.split()
    }


def test_builds_of_the_same_files_are_equal(wheel, unpacked_sdist, tmp_path):
    """And so are the wheels of the repository and of the sdist, which were copied at another time."""
    copy_sources(tmp_path)
    path = build(tmp_path, "sdist")
    assert path.read_bytes() == (unpacked_sdist.parent / path.name).read_bytes()
    assert build(unpacked_sdist, "wheel").read_bytes() == wheel.read_bytes()


def test_changelog_begins_with_this_version():
    import hrnet_kpt

    versions = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    assert versions[0] == hrnet_kpt.__version__


def test_every_import_is_a_requirement():
    """Of the wheel, or of one of its extras; and so is what detectron2 imports."""
    settings = ConfigParser()
    settings.read(ROOT / "setup.cfg", encoding="utf-8")
    texts = [settings["options"]["install_requires"], *settings["options.extras_require"].values()]
    lines = [line for text in texts for line in text.splitlines() if line and line[0] != "#"]
    required = {re.match(r"[\w.-]+", line)[0].lower() for line in lines}
    required |= {"supervision", "opencv-python"}  # of trackers
    names = {name for folder in (PACKAGE, CONFIGS) for name in imported_names(folder)}
    providers = packages_distributions()
    for name in names - sys.stdlib_module_names - {"hrnet_kpt", "detectron2"}:
        assert required & {provider.lower() for provider in providers[name]}, name
    (detectron2,) = providers["detectron2"]
    for requirement in requires(detectron2):
        name = re.match(r"[\w.-]+", requirement)[0].lower()
        assert ";" in requirement or name in required, requirement


@pytest.mark.parametrize("package", EXTRAS)
def test_missing_package_of_an_extra_is_one_line(package, monkeypatch, capsys):
    settings = ConfigParser()
    settings.read(ROOT / "setup.cfg", encoding="utf-8")
    extra = settings["options.extras_require"][EXTRAS[package]]
    assert re.search(rf"^{package.replace('_', '-')}\b", extra, re.MULTILINE)
    monkeypatch.setitem(sys.modules, package, None)
    assert run_tool(lambda: import_module(package)) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and package in line and f"[{EXTRAS[package]}]" in line
    with pytest.raises(ModuleNotFoundError):
        run_tool(lambda: import_module(package), debug=True)


def test_other_missing_modules_are_errors_of_ours():
    with pytest.raises(ModuleNotFoundError):
        run_tool(lambda: import_module("hrnet_kpt.nothing"))


def imported_names(folder):
    """First names of the modules that the files of a folder import, without relative imports."""
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from (alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level:
                yield node.module.partition(".")[0]


# -------------------------------------------------------------------- without detectron2


@pytest.fixture
def bare(unpacked, tmp_path):
    """Function that runs Python code with the wheel and the standard library alone."""

    def bare(code):
        start = f"import sys; sys.path.insert(0, {str(unpacked)!r})\n"
        return run_python("-I", "-S", "-c", start + code, cwd=tmp_path)

    return bare


def test_commands_without_detectron2_name_the_remedy(bare):
    """One line with a command for pip; --help and --version need nothing."""
    main = "from hrnet_kpt.cli.main import main; sys.exit(main({}))"
    for words in ("['--help']", "['--version']"):
        assert bare(main.format(words)).returncode == 0
    done = bare(main.format("['demo']"))
    assert (done.returncode, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    assert line.startswith("error: ") and "pip install" in line and sys.executable in line


@pytest.mark.parametrize("name", ["config", "engine", "modeling", "weights", "inference"])
def test_imports_without_detectron2_name_the_remedy(name, bare):
    done = bare(f"from hrnet_kpt.{name} import Predictor")
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ModuleNotFoundError: ") and "pip install" in last


def test_opencv_that_cannot_be_loaded_is_left_out(tmp_path):
    """As in a container without X11: detectron2 imports OpenCV wherever it is installed."""
    (tmp_path / "cv2.py").write_text("raise ImportError('libxcb.so.1: no such file')")
    code = (
        "from hrnet_kpt.inference import Predictor\n"
        "from hrnet_kpt.inference.predict.tracking import require_tracking\n"
        "from hrnet_kpt.cli.parser import run_tool\n"
        "print(run_tool(require_tracking))\n"
    )
    paths = os.pathsep.join(map(str, (tmp_path, PACKAGE.parent)))
    done = run_python("-W", "ignore", "-c", code, env={**os.environ, "PYTHONPATH": paths})
    assert done.stdout == "2\n"
    [line] = done.stderr.splitlines()
    assert line.startswith("error: --track") and "opencv-python-headless" in line


def test_remedy_is_a_command_that_downloads_the_pinned_wheel():
    """The same package as set-up's; its options take the wheel of Python 3.10 anywhere."""
    words = shlex.split(install_command())
    assert words[:4] == [sys.executable, "-m", "pip", "install"]
    assert words[-2] == sysconfig.get_path("purelib")
    pinned = (ROOT / "requirements" / "detectron2.txt").read_text(encoding="utf-8")
    assert f"\n{words[-1]} --hash=" in pinned
    setup = (ROOT / "requirements" / "setup.sh").read_text(encoding="utf-8")
    assert " ".join(words[4:8]) in setup
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"pip {' '.join(words[3:-2])}" in readme and words[-1] in readme


# ------------------------------------------------------------------------------- set-up script

FAKE_PYTHON = """#!/bin/sh
case "$*" in
    *version_info*) echo "${FAKE_VERSION:-3.11.7} $FAKES/python3" ;;
    *ensurepip*) exit ${FAKE_ENSUREPIP:-0} ;;
    "-m venv .venv")
        packages=.venv/lib/python3.11/site-packages
        mkdir -p .venv/bin "$packages/detectron2" "$packages/tools"
        touch "$packages/detectron2/_C.cpython-310-x86_64-linux-gnu.so"
        cp "$FAKES/python3" .venv/bin/python ;;
    "-m pip"*) echo "$*" >>"$FAKES/pip.log"
        case "$*" in
            *"${FAKE_PIP_INTERRUPTED:-none}"*) kill -INT $PPID ;;
            *"${FAKE_PIP_FAILS_AT:-none}"*) exit 1 ;;
        esac ;;
    *"import hrnet_kpt.modeling"*) exit ${FAKE_IMPORT:-0} ;;
esac
"""
FAKE_DF = """#!/bin/sh
echo "Filesystem 1024-blocks Used Available Capacity Mounted on"
echo "/dev/disk 99999999 1 ${FAKE_FREE_KB:-9000000} 1% /"
"""


class Setup:
    """A folder with the set-up script, and fakes of `python3` and `df` on the PATH."""

    def __init__(self, folder):
        self.root, self.fakes = folder / "clone", folder / "fakes"
        self.venv, self.stamp = self.root / ".venv", self.root / ".venv" / "setup-stamp"
        shutil.copytree(ROOT / "requirements", self.root / "requirements")
        shutil.copy(ROOT / "setup.cfg", self.root)
        self.fakes.mkdir()
        # The interpreters of the machine must not be found.
        others = dict.fromkeys((f"python3.{n}" for n in range(11, 15)), "#!/bin/sh\nexit 1\n")
        for name, text in {"python3": FAKE_PYTHON, "df": FAKE_DF, **others}.items():
            (self.fakes / name).write_text(text)
            (self.fakes / name).chmod(0o755)

    def __call__(self, **variables):
        kept = {k: v for k, v in os.environ.items() if k not in ("PYTHON", "DETECTRON2")}
        path = f"{self.fakes}{os.pathsep}{os.environ['PATH']}"
        return subprocess.run(
            ["sh", self.root / "requirements" / "setup.sh"],
            env={**kept, "PATH": path, "FAKES": str(self.fakes), **variables},
            capture_output=True,
            text=True,
            timeout=60,
            # A process in the background may ignore SIGINT, and then its shells cannot trap it.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def pip_calls(self):
        """The pip commands since the last call."""
        log = self.fakes / "pip.log"
        calls = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return calls


@pytest.fixture
def setup(tmp_path):
    return Setup(tmp_path)


@pytest.fixture
def ready(setup):
    done = setup()
    assert done.returncode == 0, done.stderr
    return setup


def test_setup_installs_in_order_and_writes_the_stamp(setup):
    done = setup()
    assert (done.returncode, done.stderr) == (0, "")
    calls = setup.pip_calls()
    parts = ("setuptools wheel", "runtime.txt -r", "requirements/detectron2.txt", "--editable .")
    assert all(part in call for part, call in zip(parts, calls, strict=True))
    options = {"--no-deps", "--require-hashes", "--only-binary=:all:", "--target"}
    assert options <= {*calls[2].split()}
    assert setup.stamp.is_file()
    (packages,) = setup.venv.glob("lib/*/site-packages")
    assert [path.name for path in packages.rglob("*")] == ["detectron2"]


def test_setup_does_nothing_the_second_time(ready):
    ready.pip_calls()
    done = ready()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert ready.pip_calls() == []


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"FAKE_VERSION": "3.15.0"}, ["3.15.0", "3.11, 3.12, 3.13 or 3.14", "PYTHON="]),
        ({"FAKE_VERSION": "3.10.13"}, ["3.10.13", "3.11, 3.12, 3.13 or 3.14"]),
        ({"FAKE_VERSION": "2.7.18", "PYTHON": "python3"}, ["PYTHON=python3", "2.7.18"]),
        ({"PYTHON": "/no/python"}, ["PYTHON=/no/python"]),
        ({"FAKE_ENSUREPIP": "1"}, ["python3.11-venv"]),
        ({"FAKE_FREE_KB": "1048576"}, ["1024 MB", "8192"]),
        ({"FAKE_PIP_FAILS_AT": "runtime.txt -r"}, [".venv"]),
        ({"FAKE_PIP_FAILS_AT": "detectron2.txt"}, ["DETECTRON2="]),
        ({"DETECTRON2": "/no/checkout", "FAKE_PIP_FAILS_AT": "/no/checkout"}, ["/no/checkout"]),
        ({"FAKE_PIP_FAILS_AT": "--editable"}, [".venv"]),
        ({"FAKE_IMPORT": "1"}, ["import"]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_setup_failure_is_one_line_and_leaves_no_venv(setup, variables, words):
    done = setup(**variables)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and all(word in line for word in words)
    assert not setup.venv.exists()


def test_setup_interrupted_leaves_no_venv(setup):
    done = setup(FAKE_PIP_INTERRUPTED="runtime.txt -r")
    assert done.returncode == 130
    assert not setup.venv.exists()
    assert setup().returncode == 0


def test_setup_does_not_trust_a_venv_without_stamp(ready):
    ready.stamp.unlink()
    (ready.venv / "left-over").touch()
    done = ready()
    assert done.returncode == 0
    assert ready.stamp.is_file()
    assert not (ready.venv / "left-over").exists()


@pytest.mark.parametrize("name", ["setup.cfg", "requirements/runtime.txt", "requirements/setup.sh"])
def test_setup_notices_changed_requirements(ready, name):
    with (ready.root / name).open("a") as file:
        file.write("\n# changed\n")
    (ready.venv / "left-over").touch()
    done = ready()
    assert done.returncode == 0
    assert "setup.cfg" in done.stdout
    assert not (ready.venv / "left-over").exists()
    assert ready().stdout == ""


def test_setup_notices_a_moved_folder(ready, tmp_path):
    ready.root.rename(tmp_path / "moved")
    ready.root = tmp_path / "moved"
    assert str(tmp_path / "clone") in ready().stdout


def test_setup_notices_another_python(ready):
    assert ready(FAKE_VERSION="3.12.1").stdout == ""  # PYTHON is unset: .venv is kept
    assert ready(PYTHON="python3").stdout == ""
    text = ready(PYTHON="python3", FAKE_VERSION="3.11.9").stdout
    assert "3.11.9" in text and "3.11.7" in text


def test_setup_keeps_the_choice_of_detectron2_until_another_is_made(ready):
    ready.pip_calls()
    assert "DETECTRON2" in ready(DETECTRON2="/a checkout").stdout
    options = "--no-deps --no-build-isolation /a checkout"
    assert any(call.endswith(options) for call in ready.pip_calls())
    assert ready().stdout == ""
    (ready.root / "requirements" / "dev.txt").write_text("# other\n")
    assert "/a checkout" in ready().stdout
    assert "DETECTRON2" in ready(DETECTRON2="").stdout


# --------------------------------------------------------------------------------- pinned sets


@pytest.mark.parametrize(
    "name", sorted(path.name for path in (ROOT / "requirements").glob("*.txt"))
)
def test_every_requirement_is_pinned(name):
    lines = (ROOT / "requirements" / name).read_text(encoding="utf-8").splitlines()
    requirements = [line for line in lines if line and not line.startswith("#")]
    assert requirements
    assert [line for line in requirements if "==" not in line] == []
