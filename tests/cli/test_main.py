"""The console command hrnet-kpt, and the files of tools/, which run the same commands."""

import shlex
import subprocess
import sys

import pytest

import hrnet_kpt
from hrnet_kpt.cli import demo, evaluate, train
from hrnet_kpt.cli.main import COMMANDS, main

# Each has a file in tools/; `evaluate` and `demo` are `train` with other defaults.
TOOLS = {name: module for name, module in COMMANDS.items() if module not in (demo, evaluate)}


def test_every_tool_is_a_command_and_every_command_a_tool(repository):
    """The files of tools/ are executable, call the command, and are named in its --help."""
    texts = {path.name: path.read_text() for path in (repository / "tools").glob("*.py")}
    assert len(texts) == len(TOOLS)
    for module in TOOLS.values():
        folder, name = module.parser().prog.split("/")
        assert folder == "tools"
        text = texts.pop(name)
        assert f"from {module.__name__} import main\n" in text and "sys.exit(main())\n" in text
        assert len(text.splitlines()) < 10
        assert (repository / "tools" / name).stat().st_mode & 0o111


@pytest.mark.parametrize("name", COMMANDS)
def test_help_names_the_command_as_it_was_called(name, capsys):
    with pytest.raises(SystemExit) as end:
        main([name, "--help"])
    text = capsys.readouterr().out
    assert end.value.code == 0
    assert text.startswith(f"usage: hrnet-kpt {name} ") and f"\n  hrnet-kpt {name}" in text
    assert "tools/" not in text and "%(prog)s" not in text
    if name in TOOLS:
        prog = TOOLS[name].parser().prog
        assert TOOLS[name].parser().format_help().count(prog) == text.count(f"hrnet-kpt {name}")


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_are_ones_that_the_command_takes(name):
    parser = COMMANDS[name].parser()
    _, examples = parser.format_help().replace("\\\n", "").split("examples:\n")
    for line in examples.splitlines():
        command, arguments = line.strip()[: len(parser.prog)], line.strip()[len(parser.prog) :]
        assert command == parser.prog
        parser.parse_intermixed_args(shlex.split(arguments))


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_lists_the_commands(flag, capsys):
    assert main([flag]) == 0
    output, errors = capsys.readouterr()
    listed = [line.split()[0] for line in output.splitlines() if line.startswith("  ")]
    assert listed == list(COMMANDS)
    assert errors == ""
    assert max(map(len, output.splitlines())) <= 110
    for nothing in ([], [""]):
        assert main(nothing) == 2
        assert capsys.readouterr() == ("", output)


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"hrnet-kpt {hrnet_kpt.__version__}\n"


@pytest.mark.parametrize(
    ("word", "nearest"),
    [("trian", "train"), ("eval", "evaluate"), ("check_data", "check-data"), ("check-dataset", "check-data"),
     ("visualise-data", "visualize-data"), ("--versoin", "--version"), ("xyz", "replay"), ("--config-file", "replay")],
)  # fmt: skip
def test_unknown_command_is_one_line_with_the_nearest(word, nearest, capsys):
    assert main([word, "--config-file", "x.py"]) == 2
    output, errors = capsys.readouterr()
    [line] = errors.splitlines()
    assert line.startswith("error: ") and word in line and nearest in line
    assert output == ""


def test_evaluate_is_train_with_eval_only():
    words = ["--config-file", "x.py", "train.seed=1", "--resume"]
    expected = train.parser().parse_intermixed_args([*words, "--eval-only"])
    assert evaluate.parser().parse_intermixed_args(words) == expected


def test_arguments_and_statuses_pass_through(monkeypatch, capsys):
    given = []
    monkeypatch.setattr(train, "run", lambda args: given.append(args) or 3)
    assert main(["evaluate", "--config-file", "x.py"]) == 3
    monkeypatch.setattr(sys, "argv", ["hrnet-kpt", "evaluate", "--config-file", "x.py"])
    assert main() == 3
    assert given[0] == given[1] and given[0].eval_only and given[0].config_file == "x.py"
    with pytest.raises(SystemExit) as end:
        main(["train", "--config-fil", "x.py", "--eval_only"])
    assert end.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_help_imports_nothing_but_the_standard_library(repository):
    """Slow imports wait until the command runs."""
    code = (
        "import sys\n"
        "before = {*sys.modules}\n"
        "from hrnet_kpt.cli.main import COMMANDS, main\n"
        "main(['--help'])\n"
        "for module in COMMANDS.values():\n"
        "    module.parser().format_help()\n"
        "print(*({*sys.modules} - before))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = done.stdout.splitlines()[-1].split()
    others = {name.partition(".")[0] for name in modules} - sys.stdlib_module_names
    assert others == {"hrnet_kpt"}
    assert len(modules) < 150
