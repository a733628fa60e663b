"""Flags and TAGLOOP_ variables: precedence, conversion, and every way to get them wrong."""

import subprocess
import sys
from pathlib import Path

import pytest

from demo.errors import BadInput
from demo.flags import COMMANDS, parse_flags
from demo.settings import Settings

NEEDED = ["--csv", "c.csv", "--out", "o"]
CONTRACT = {
    "app": "--model --corrections --images --device --host --port --mcp",
    "tag": "--model --threshold --out --scores --batch-size --workers --device --resume",
    "finetune": "--csv --out --model --labels --epochs --unknown --new-labels --train --loss --half --seed --resume "
    "--check",
    "evaluate": "--csv --model --split --json --predictions",
}


@pytest.mark.parametrize("command", CONTRACT)
def test_every_flag_of_the_contract_is_there(command):
    assert set(CONTRACT[command].split()) <= {f"--{flag.name}" for flag in COMMANDS[command]}


def test_defaults_are_those_of_the_contract():
    flags = parse_flags("finetune", NEEDED, {})
    assert (flags.unknown, flags.new_labels, flags.train, flags.loss) == ("distill", "add", "auto", "bce")
    assert parse_flags("evaluate", ["--csv", "c.csv"], {}).split == "valid"


def test_a_flag_wins_over_its_variable_and_that_over_the_default():
    environment = {"TAGLOOP_UNKNOWN": "ignore", "TAGLOOP_HALF": "1"}
    flags = parse_flags("finetune", NEEDED, environment)
    assert (flags.unknown, flags.half) == ("ignore", True)
    flags = parse_flags("finetune", [*NEEDED, "--unknown", "negative", "--no-half"], environment)
    assert (flags.unknown, flags.half) == ("negative", False)


def test_a_variable_of_another_command_is_no_error_here():
    assert parse_flags("evaluate", ["--csv", "c"], {"TAGLOOP_UNKNOWN": "ignore"}).csv == "c"


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        ([*NEEDED, "--unknwon", "x"], {}, "unrecognized arguments: --unknwon"),
        (NEEDED, {"TAGLOOP_UNKNWON": "x"}, "TAGLOOP_UNKNWON belongs to no flag"),
        (["--out", "o"], {}, "--csv is required"),
        ([*NEEDED, "--unknown", "maybe"], {}, "distill, ignore, negative"),
        ([*NEEDED, "--seed", "-1"], {}, "--seed is '-1'"),
        ([*NEEDED, "--mosaic", "1.5"], {}, "from 0 to 1"),
        ([*NEEDED, "--lr-head", "nan"], {}, "finite"),
        (NEEDED, {"TAGLOOP_HALF": "maybe"}, "TAGLOOP_HALF is 'maybe'"),
        (NEEDED, {"TAGLOOP_EPOCHS": "few"}, "TAGLOOP_EPOCHS is 'few'"),
    ],
)
def test_what_cannot_be_used_is_named(arguments, environment, said):
    with pytest.raises(BadInput, match=said):
        parse_flags("finetune", arguments, environment)


def test_the_app_takes_gradios_own_variables_and_its_flags_win():
    environment = {"GRADIO_SERVER_NAME": "0.0.0.0", "GRADIO_SERVER_PORT": "8000"}
    assert (Settings.from_flags([], environment).host, Settings.from_flags([], environment).port) == ("0.0.0.0", 8000)
    flagged = Settings.from_flags(["--host", "127.0.0.1", "--port", "9"], environment)
    assert (flagged.host, flagged.port) == ("127.0.0.1", 9)
    with pytest.raises(BadInput, match="GRADIO_SERVER_PORT"):
        Settings.from_flags([], {"GRADIO_SERVER_PORT": "http"})
    with pytest.raises(BadInput, match="not a folder"):
        Settings.from_flags(["--images", "/nowhere"], {})


@pytest.mark.parametrize(("given", "allowed"), [("timm, owner/name", ("timm", "owner/name")), ("none", ()), ("", None)])
def test_the_models_that_visitors_may_load_are_owners_and_repos(given, allowed):
    assert Settings.from_flags([], {"TAGLOOP_ALLOW_MODELS": given}).allow_models == allowed
    with pytest.raises(BadInput, match="Owners and repos"):
        Settings.from_flags(["--allow-models", "a/b/c"], {})


@pytest.mark.parametrize(
    ("environment", "is_public"),
    [
        ({}, False),
        ({"GRADIO_SERVER_NAME": "localhost"}, False),
        ({"GRADIO_SERVER_NAME": "127.0.0.2"}, False),
        ({"GRADIO_SERVER_NAME": "::1"}, False),
        ({"GRADIO_SERVER_NAME": "0.0.0.0"}, True),
        ({"GRADIO_SERVER_NAME": "::"}, True),
        ({"GRADIO_SERVER_NAME": "example.org"}, True),
        ({"SPACE_ID": "owner/space"}, True),
    ],
)
def test_a_space_and_any_address_but_ones_own_are_public_and_fine_tune_nothing(environment, is_public):
    settings = Settings.from_flags([], environment)
    assert (settings.is_public, settings.retraining) == (is_public, not is_public)


@pytest.mark.parametrize("command", ["demo.finetune", "demo.evaluate", "demo.tag", "demo.export", "demo.publish"])
def test_help_names_every_flag_and_its_variable(command):
    done = subprocess.run(
        [sys.executable, "-m", command, "--help"], capture_output=True, text=True, cwd=Path(__file__).parents[1]
    )
    assert done.returncode == 0
    for flag in COMMANDS[command.removeprefix("demo.")]:
        assert f"--{flag.name}" in done.stdout
        assert flag.variable in done.stdout
